"""The bytes of one member of a raw dataset, for any process that is told where they lie."""

import stat
import struct
import zipfile
import zlib
from functools import cached_property
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any, NamedTuple

from stages.runtime.errors import UserError
from stages.sources.names import litter_of

# What the standard library raises for bytes that cannot be had; a zip's names may be broken too.
UNREADABLE = (
    OSError, EOFError, zipfile.BadZipFile, zlib.error, LZMAError, struct.error,
    NotImplementedError, UnicodeDecodeError,
)  # fmt: skip
_MOST_BYTES = 256 * 2**20
# A member's own header in a zip: signature, flags, method, lengths of name and extra field.
_HEADER = struct.Struct("<4s2xHH16xHH")
IN_UTF8 = 0x800
_SIGNATURE, _MOST_EXTRA = b"PK\x03\x04", 64
_RAW_DEFLATE = -15


class Packed(NamedTuple):
    """A member of a zip, as the zip's directory has it."""

    name: str
    offset: int
    num_packed: int
    num_bytes: int
    crc: int
    method: int


# Of a folder's member the path.
Place = str | Packed


def add_place(places: dict[str, Place], name: str, place: Place) -> None:
    """Note where a member lies; what is litter is let through, whatever its name.

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


class UnreadableMemberError(ValueError):
    """A member whose bytes cannot be had: a broken zip entry, a bad disk, an absurd size."""


class MemberReader:
    """Reads members by their places, in the folder or the zip at `archive`.

    It can be pickled: a copy opens the zip for itself. No two threads may share one.
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
        """The bytes of a member.

        Raises:
            UnreadableMemberError: if they cannot be read, or are more than any picture has.
        """
        try:
            if isinstance(place, str):
                _check_size(member, Path(place).stat().st_size)
                with self.open(place) as file:
                    return file.read()
            _check_size(member, max(place.num_bytes, place.num_packed))
            data = self._unpacked(place)
            # zipfile knows what is wrong with it, and the packings that are rare.
            return self.archive.read(place.name) if data is None else data
        except UNREADABLE as error:
            raise UnreadableMemberError(f"{member}: {type(error).__name__}") from None

    def open(self, place: Place) -> IO[bytes]:
        """Open a member for reading bytes; errors are those of `UNREADABLE`."""
        if isinstance(place, Packed):
            return self.archive.open(place.name)
        return _open_file(place)

    @cached_property
    def _file(self) -> IO[bytes]:
        assert self.path is not None
        return self.path.open("rb", buffering=0)

    def _unpacked(self, place: Packed) -> bytes | None:
        """A stored or deflated member that is whole, in half the time of zipfile; else None."""
        name = place.name.encode()
        self._file.seek(place.offset)
        data = self._file.read(_HEADER.size + len(name) + _MOST_EXTRA + place.num_packed)
        if len(data) < _HEADER.size:
            return None
        signature, flags, method, num_name, num_extra = _HEADER.unpack_from(data)
        start = _HEADER.size + num_name
        if not (flags & IN_UTF8 or name.isascii()):
            return None
        if (signature, method, data[_HEADER.size : start]) != (_SIGNATURE, place.method, name):
            return None
        packed = data[start + num_extra : start + num_extra + place.num_packed]
        unpacked = _inflated(packed, place)
        is_whole = (
            unpacked is not None
            and len(unpacked) == place.num_bytes
            and zlib.crc32(unpacked) == place.crc
        )
        return unpacked if is_whole else None


def _inflated(packed: bytes, place: Packed) -> bytes | None:
    """Unpack to at most the bytes that the directory claims; None for what is left to zipfile."""
    if place.method == zipfile.ZIP_STORED:
        return packed
    # To zlib, a limit of 0 bytes is none.
    if place.method != zipfile.ZIP_DEFLATED or not place.num_bytes:
        return None
    try:
        return zlib.decompressobj(_RAW_DEFLATE).decompress(packed, place.num_bytes)
    except zlib.error:
        return None


def _open_file(path: str) -> IO[bytes]:
    file = Path(path)
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(f"{path}: not a regular file")  # opening a pipe would wait for ever
    return file.open("rb")


def _check_size(member: str, num_bytes: int) -> None:
    # As a zip declares them; no more than these are ever unpacked.
    if num_bytes > _MOST_BYTES:
        raise UnreadableMemberError(
            f"{member}: {num_bytes:,} bytes, expected at most {_MOST_BYTES:,}"
        )
