"""Names of members: how letters are composed, and which names are litter."""

import unicodedata

# What systems leave beside a person's files, in small letters; names that begin with a dot are
# litter anyway: .DS_Store, .Trashes, .thumbnails, .@__thumb, .Trash-1000, .git, .dvc, .nfs0001.
_LITTER = frozenset({
    # macOS, in archives and on foreign disks
    "__macosx", "icon\r", "icon\uf00d", "desktop db", "desktop df", "network trash folder",
    "temporary items", "thevolumesettingsfolder",
    # Windows
    "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini",
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000",
    # Linux
    "lost+found", "__pycache__",
    # NAS boxes: Synology, QNAP, NetApp, Buffalo
    "@eadir", "@tmp", "@sharesnap", "#recycle", "#snapshot", "@__thumb", "@recycle",
    "@recently-snapshot", "~snapshot", "trashbox",
})  # fmt: skip
# Resource forks, owners' locks of office programs, halves of files under way, and Synology's
# thumbnails where they were copied out of their @eaDir.
_BEGINNINGS = ("._", "~$", "~syncthing~", "synophoto_thumb", "synophoto:thumb")
_ENDINGS = ("@synoresource", "@synoeastream")


def composed(name: str) -> str:
    """Compose the letters of a name: macOS hands out e and an accent where others write é."""
    return unicodedata.normalize("NFC", name)


def litter_of(path: str) -> str | None:
    """Find the topmost file or folder in a member's path that is litter; None if there is none."""
    parts = path.split("/")
    place = next((n for n, part in enumerate(parts, start=1) if litter_kind(part)), None)
    return None if place is None else "/".join(parts[:place])


def litter_kind(name: str) -> str | None:
    """Name the kind of litter of a file or folder, for counting; None if it is no litter."""
    folded = name.lower()
    if beginning := next((start for start in _BEGINNINGS if folded.startswith(start)), None):
        return f"{beginning}*"
    if ending := next((end for end in _ENDINGS if folded.endswith(end)), None):
        return f"*{ending}"
    return name if folded.startswith(".") or folded in _LITTER else None
