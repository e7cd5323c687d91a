"""Members of a folder or zip -> their places, and their bytes for any process that has a place.

Names are composed, and those of litter told apart. The directory of a zip is refused where it
cannot be trusted.
"""

import stat
import struct
import unicodedata
import zipfile
import zlib
from functools import cached_property
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any

from stages.runtime.errors import UserError
from stages.runtime.foreign import describe_file

# What the standard library raises for bytes that cannot be had; a zip's names may be broken too.
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, LZMAError, struct.error, NotImplementedError)
UNREADABLE = (OSError, EOFError, UnicodeDecodeError, *_BROKEN_ZIP)
_MAX_BYTES = 256 * 2**20
# A member's own header in a zip ends with the lengths of its name and of an extra field.
_HEADER, _MAX_EXTRA = struct.Struct("<26xHH"), 64
_RAW_DEFLATE = -15
_ENCRYPTED, _IN_UTF8 = 0x1, 0x800
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


# A member of a folder lies at its path, of a zip where the zip's directory says.
Place = str | zipfile.ZipInfo


class UnreadableMemberError(ValueError):
    """A member whose bytes cannot be had: a broken zip entry, a bad disk, an absurd size."""


class MemberReader:
    """Reads members by their places, in a folder (None) or in the zip at `archive`.

    It can be pickled: a copy opens the zip for itself. No two threads may share it.
    """

    def __init__(self, archive: Path | None) -> None:
        self.path = archive

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    @cached_property
    def archive(self) -> zipfile.ZipFile:
        """The zip, for what is seldom: its directory, and members that `_unpack` cannot read."""
        assert self.path is not None
        return zipfile.ZipFile(self.path)

    @cached_property
    def _file(self) -> IO[bytes]:
        assert self.path is not None
        return self.path.open("rb", buffering=0)

    def close(self) -> None:
        """Close the zip."""
        for name in ("archive", "_file"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    def read(self, member: str, place: Place) -> bytes:
        """Read the bytes of a member.

        Raises:
            UnreadableMemberError: if they cannot be read, or are more than any picture has.
        """
        try:
            if isinstance(place, str):
                num_bytes = Path(place).stat().st_size
            else:
                num_bytes = max(place.file_size, place.compress_size)
            # As a zip declares them; no more than these are ever unpacked.
            if num_bytes > _MAX_BYTES:
                raise UnreadableMemberError(
                    f"{member}: {num_bytes:,} bytes, expected at most {_MAX_BYTES:,}"
                )
            data = None if isinstance(place, str) else self._unpack(place)
            if data is None:
                # zipfile knows what is wrong with a member, and the packings that are rare.
                with self.open(place) as file:
                    data = file.read()
            return data
        except UNREADABLE as error:
            raise UnreadableMemberError(f"{member}: {type(error).__name__}") from None

    def open(self, place: Place) -> IO[bytes]:
        """Open a member for reading bytes; errors are those of `UNREADABLE`."""
        if isinstance(place, zipfile.ZipInfo):
            return self.archive.open(place)
        if not stat.S_ISREG(Path(place).stat().st_mode):
            raise OSError(f"{place}: not a regular file")  # opening a pipe would wait for ever
        return Path(place).open("rb")

    def _unpack(self, place: zipfile.ZipInfo) -> bytes | None:
        """Read a member, stored or deflated, in half the time of zipfile; None if this fails.

        Bytes of the length and checksum in the directory are right, whatever their header says.
        """
        self._file.seek(place.header_offset)
        max_start = _HEADER.size + len(place.orig_filename.encode()) + _MAX_EXTRA
        data = self._file.read(max_start + place.compress_size)
        if len(data) < _HEADER.size:
            return None
        start = _HEADER.size + sum(_HEADER.unpack_from(data))
        unpacked = data[start : start + place.compress_size]
        if place.compress_type != zipfile.ZIP_STORED:
            try:
                # To zlib, a limit of 0 bytes is no limit.
                inflater = zlib.decompressobj(_RAW_DEFLATE)
                unpacked = inflater.decompress(unpacked, max(1, place.file_size))
            except zlib.error:
                return None
        is_whole = len(unpacked) == place.file_size and zlib.crc32(unpacked) == place.CRC
        return unpacked if is_whole else None


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


def add_place(places: dict[str, Place], name: str, place: Place) -> None:
    """Note where a member lies; litter is let through, whatever its name.

    Raises:
        UserError: if there are two members of that name, or it is not UTF-8.
    """
    if not litter_of(name):
        if name in places:
            raise UserError(f"has two members {name!r}")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"has a member whose name is not UTF-8: {name!a}") from None
    places[name] = place


def open_zip(path: Path, *, below: str) -> tuple[MemberReader, dict[str, Place]]:
    """Open a zip and find the members below one of its folders; the folder `.` means all.

    Raises:
        UserError: if it is no zip, a zip that cannot be trusted, or without that folder.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(f"is neither a folder nor a whole zip; it is {describe_file(path)}")
    reader = MemberReader(path)
    try:
        entries = reader.archive.infolist()
    except UNREADABLE as error:
        raise UserError(f"is a broken zip: {type(error).__name__}: {error}") from None
    try:
        packed, num_bytes = sum(entry.compress_size for entry in entries), path.stat().st_size
        if packed > num_bytes:
            raise UserError(
                f"is broken, or a zip bomb: its members take {packed:,} bytes of {num_bytes:,}"
            )
        places: dict[str, Place] = {}
        for entry in entries:
            _add_entry(places, entry)
        return reader, places if below == "." else _places_below(places, composed(below))
    except UserError:
        reader.close()
        raise


def _add_entry(places: dict[str, Place], entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    # Some tools write UTF-8 and do not say so, and Windows' backslashes.
    if not entry.flag_bits & _IN_UTF8:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = entry.filename
    name = composed(name.replace("\\", "/"))
    if name.endswith("/"):
        return
    if name.startswith("/") or ".." in name.split("/") or ":" in name.split("/")[0]:
        raise UserError(f"has a member {name!r} that points outside of the archive")
    if entry.flag_bits & _ENCRYPTED:
        raise UserError(f"has an encrypted member, {name!r}; unpack the archive")
    # Some tools begin every name with `./`.
    name = "/".join(part for part in name.split("/") if part not in {"", "."})
    add_place(places, name, entry)


def _places_below(places: dict[str, Place], folder: str) -> dict[str, Place]:
    """Pick the members below a folder, their names from there on."""
    start = f"{folder}/"
    if folder in places:
        raise UserError(f"holds a file {folder!r}, expected a folder (unpack an archive)")
    below = {name[len(start) :]: places[name] for name in places if name.startswith(start)}
    if not below:
        folders = sorted({name.rpartition("/")[0] for name in places} - {""})
        raise UserError(f"holds no folder {folder!r}; its folders: {folders[:5]}")
    return below
