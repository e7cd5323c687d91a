"""The directory of a zip -> the places of its members, refused where it cannot be trusted."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from stages.runtime.errors import UserError
from stages.runtime.foreign import describe_file
from stages.sources.members import IN_UTF8, UNREADABLE, MemberReader, Packed, Place, add_place
from stages.sources.names import composed

_ENCRYPTED, _PATCHED, _STRONGLY_ENCRYPTED = 0x1, 0x20, 0x40
_NO_METHOD = -1
_MOST_SHOWN = 5


def open_zip(path: Path, *, below: str) -> tuple[MemberReader, dict[str, Place]]:
    """Open a zip and find the members below one of its folders; the folder `.` means all.

    Raises:
        UserError: if it is no zip, one that cannot be trusted, or without that folder.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(f"is neither a folder nor a whole zip; it is {describe_file(path)}")
    reader = MemberReader(path)
    try:
        entries = reader.archive.infolist()
    except UNREADABLE as error:
        raise UserError(f"is a broken zip: {type(error).__name__}: {error}") from None
    try:
        places = _places(entries, num_bytes=path.stat().st_size)
        return reader, places if below == "." else _below(places, composed(below))
    except UserError:
        reader.close()
        raise


def _places(entries: Sequence[zipfile.ZipInfo], *, num_bytes: int) -> dict[str, Place]:
    packed = sum(entry.compress_size for entry in entries)
    if packed > num_bytes:
        raise UserError(
            f"is broken, or a zip bomb: its members take {packed:,} bytes of {num_bytes:,}"
        )
    places: dict[str, Place] = {}
    for entry in entries:
        name = _name(entry)
        if name.endswith("/"):
            continue
        if name.startswith("/") or ".." in name.split("/") or ":" in name.split("/")[0]:
            raise UserError(f"has a member {name!r} that points outside of the archive")
        if entry.flag_bits & _ENCRYPTED:
            raise UserError(f"has an encrypted member, {name!r}; unpack the archive")
        # Some tools begin every name with `./`.
        add_place(
            places,
            "/".join(part for part in name.split("/") if part not in {"", "."}),
            _packed(entry),
        )
    return places


def _below(places: dict[str, Place], folder: str) -> dict[str, Place]:
    """The members below a folder, their names from there on."""
    start = f"{folder}/"
    found = {
        name.removeprefix(start): place for name, place in places.items() if name.startswith(start)
    }
    if folder in places:
        raise UserError(
            f"holds a file {folder!r}, expected a folder (unpack it if it is an archive)"
        )
    if not found:
        folders = sorted({name.rpartition("/")[0] for name in places} - {""})
        raise UserError(f"holds no folder {folder!r}; its folders: {folders[:_MOST_SHOWN]}")
    return found


def _packed(entry: zipfile.ZipInfo) -> Packed:
    is_odd = entry.flag_bits & (_PATCHED | _STRONGLY_ENCRYPTED)
    return Packed(
        entry.filename,
        entry.header_offset,
        entry.compress_size,
        entry.file_size,
        entry.CRC,
        _NO_METHOD if is_odd else entry.compress_type,
    )


def _name(info: zipfile.ZipInfo) -> str:
    """A member's name. Some tools write UTF-8 and do not say so, and Windows' backslashes."""
    name = info.filename
    if not info.flag_bits & IN_UTF8:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    return composed(name.replace("\\", "/"))
