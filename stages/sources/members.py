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
from typing import IO, Any, NamedTuple

from stages.runtime.errors import UserError
from stages.runtime.foreign import describe_file

# What the standard library raises for bytes that cannot be had; a zip's names may be broken too.
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, LZMAError, struct.error, NotImplementedError)
UNREADABLE = (OSError, EOFError, UnicodeDecodeError, *_BROKEN_ZIP)
_MAX_BYTES = 256 * 2**20
# A member's own header in a zip: signature, flags, method, lengths of name and extra field.
_HEADER = struct.Struct("<4s2xHH16xHH")
_SIGNATURE, _MAX_EXTRA = b"PK\x03\x04", 64
_RAW_DEFLATE = -15
_ENCRYPTED, _PATCHED, _STRONGLY_ENCRYPTED, _IN_UTF8 = 0x1, 0x20, 0x40, 0x800
_NO_METHOD = -1
_MAX_SHOWN = 5
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


class Packed(NamedTuple):
    """A member of a zip, as the zip's directory has it."""

    name: str
    offset: int
    num_packed: int
    num_bytes: int
    crc: int
    method: int


# A folder's member lies at its path.
Place = str | Packed


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
        """The zip, for what is seldom: its directory, and members that are not plainly packed."""
        assert self.path is not None
        return zipfile.ZipFile(self.path)

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
                _check_size(member, Path(place).stat().st_size)
                with self.open(place) as file:
                    return file.read()
            _check_size(member, max(place.num_bytes, place.num_packed))
            data = self._unpack(place)
            # zipfile knows what is wrong with it, and the packings that are rare.
            return self.archive.read(place.name) if data is None else data
        except UNREADABLE as error:
            raise UnreadableMemberError(f"{member}: {type(error).__name__}") from None

    def open(self, place: Place) -> IO[bytes]:
        """Open a member for reading bytes; errors are those of `UNREADABLE`."""
        if isinstance(place, Packed):
            return self.archive.open(place.name)
        if not stat.S_ISREG(Path(place).stat().st_mode):
            raise OSError(f"{place}: not a regular file")  # opening a pipe would wait for ever
        return Path(place).open("rb")

    @cached_property
    def _file(self) -> IO[bytes]:
        assert self.path is not None
        return self.path.open("rb", buffering=0)

    def _unpack(self, place: Packed) -> bytes | None:
        """Read a whole member, stored or deflated, in half the time of zipfile; else None."""
        name = place.name.encode()
        self._file.seek(place.offset)
        data = self._file.read(_HEADER.size + len(name) + _MAX_EXTRA + place.num_packed)
        if len(data) < _HEADER.size:
            return None
        signature, flags, method, num_name, num_extra = _HEADER.unpack_from(data)
        start = _HEADER.size + num_name
        if not (flags & _IN_UTF8 or name.isascii()):
            return None
        if (signature, method, data[_HEADER.size : start]) != (_SIGNATURE, place.method, name):
            return None
        unpacked = data[start + num_extra : start + num_extra + place.num_packed]
        if method != zipfile.ZIP_STORED:
            # To zlib, a limit of 0 bytes is no limit.
            if method != zipfile.ZIP_DEFLATED or not place.num_bytes:
                return None
            try:
                inflater = zlib.decompressobj(_RAW_DEFLATE)
                unpacked = inflater.decompress(unpacked, place.num_bytes)
            except zlib.error:
                return None
        is_whole = len(unpacked) == place.num_bytes and zlib.crc32(unpacked) == place.crc
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
    is_odd = entry.flag_bits & (_PATCHED | _STRONGLY_ENCRYPTED)
    method = _NO_METHOD if is_odd else entry.compress_type
    sizes = (entry.compress_size, entry.file_size)
    add_place(places, name, Packed(entry.filename, entry.header_offset, *sizes, entry.CRC, method))


def _places_below(places: dict[str, Place], folder: str) -> dict[str, Place]:
    """Pick the members below a folder, their names from there on."""
    start = f"{folder}/"
    if folder in places:
        raise UserError(
            f"holds a file {folder!r}, expected a folder (unpack it if it is an archive)"
        )
    below = {name[len(start) :]: places[name] for name in places if name.startswith(start)}
    if not below:
        folders = sorted({name.rpartition("/")[0] for name in places} - {""})
        raise UserError(f"holds no folder {folder!r}; its folders: {folders[:_MAX_SHOWN]}")
    return below


def _check_size(member: str, num_bytes: int) -> None:
    # As a zip declares them; no more than these are ever unpacked.
    if num_bytes > _MAX_BYTES:
        raise UnreadableMemberError(
            f"{member}: {num_bytes:,} bytes, expected at most {_MAX_BYTES:,}"
        )
