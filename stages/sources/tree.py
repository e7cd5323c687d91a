"""A raw dataset as it was downloaded: a folder, or a zip read in place, seen as sorted members."""

import functools
import hashlib
import io
import logging
import lzma
import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn, Self

from stages.runtime.errors import UserError

# What the standard library raises for bytes that cannot be had; a zip's names may be broken too.
UNREADABLE = (
    OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    NotImplementedError, UnicodeDecodeError,
)  # fmt: skip
# What operating systems leave behind; never a row of a dataset.
_LITTER = {"__macosx", "thumbs.db", "desktop.ini", "icon\r"}
_JPG = ".jpg"
_ARCHIVES = {".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"}
_ENCRYPTED, _IN_UTF8 = 0x1, 0x800
_MOST_BYTES = 256 * 2**20
PICTURE_SUFFIXES = {
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip

_File = Path | zipfile.ZipInfo

logger = logging.getLogger(__name__)


class UnreadableMemberError(ValueError):
    """A member whose bytes cannot be had: a broken zip entry, a bad disk, an absurd size."""


class RawTree:
    """Members of a folder or zip by posix path, in sorted order; the same on every machine.

    `members` leaves out folders, hidden files and the litter of operating systems. Used in a `with`
    block, which closes the archive.
    """

    def __init__(self, files: dict[str, _File], *, archive: zipfile.ZipFile | None) -> None:
        self._files = {name: file for name, file in files.items() if not _is_litter(name)}
        self._archive = archive
        self.members = tuple(sorted(self._files))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()

    def read(self, member: str) -> bytes:
        """The bytes of a member.

        Raises:
            UnreadableMemberError: if they cannot be read, or are more than any picture has.
        """
        try:
            size = self._size(member)
            if size > _MOST_BYTES:
                raise UnreadableMemberError(
                    f"{member}: {size:,} bytes, expected at most {_MOST_BYTES:,}"
                )
            with self.open(member) as file:
                return file.read()
        except UNREADABLE as error:
            raise UnreadableMemberError(f"{member}: {type(error).__name__}") from None

    def open(self, member: str) -> IO[bytes]:
        """Open a member for reading bytes; errors are those of `UNREADABLE`."""
        file = self._files[member]
        if isinstance(file, Path):
            if not stat.S_ISREG(file.stat().st_mode):
                raise OSError(f"{member}: not a regular file")  # opening a pipe would wait for ever
            return file.open("rb")
        assert self._archive is not None
        return self._archive.open(file)

    def open_text(self, member: str) -> io.TextIOWrapper:
        """Open a member as UTF-8 text, with or without a byte order mark; line ends are kept."""
        return io.TextIOWrapper(self.open(member), encoding="utf-8-sig", newline="")

    def find(self, name: str) -> str | None:
        """The member whose path ends with `name` (letter case aside), or None.

        Raises:
            UserError: if there are several.
        """
        tail = f"/{name.lower()}"
        found = [member for member in self.members if f"/{member.lower()}".endswith(tail)]
        if len(found) > 1:
            raise UserError(f"{name}: expected one such file, found {len(found)}: {found[:3]}")
        return found[0] if found else None

    def pictures_below(self, folder: str) -> "Pictures":
        """The pictures that lie, at any depth, below a folder of that name (letter case aside)."""
        below = f"/{folder.lower()}/"
        return Pictures(
            member
            for member in self.members
            if below in f"/{member.lower()}"
            and PurePosixPath(member).suffix.lower() in PICTURE_SUFFIXES
        )

    def content_sha256(self) -> str:
        """SHA-256 over the sorted paths and the SHA-256 of each one's bytes."""
        digest = hashlib.sha256()
        for member in self.members:
            digest.update(f"{member}\0{self._member_sha256(member)}\n".encode())
        return digest.hexdigest()

    def _size(self, member: str) -> int:
        """Bytes on disk, or as a zip declares them; no more than these are ever unpacked."""
        file = self._files[member]
        return file.stat().st_size if isinstance(file, Path) else file.file_size

    def _member_sha256(self, member: str) -> str:
        try:
            digest = hashlib.sha256()
            with self.open(member) as file:
                while piece := file.read(2**20):  # a table may be larger than any picture
                    digest.update(piece)
        except UNREADABLE:
            return "unreadable"
        return digest.hexdigest()


class Pictures:
    """Pictures of a tree by file name; `unused` are those that nobody has looked up."""

    def __init__(self, members: Iterable[str]) -> None:
        self._exact: dict[str, str] = {}
        for member in members:
            name = PurePosixPath(member).name
            if name in self._exact:
                raise UserError(f"{name}: expected once, found {self._exact[name]} and {member}")
            self._exact[name] = member
        spellings = Counter(name.lower() for name in self._exact)
        self._folded = {
            name.lower(): member
            for name, member in self._exact.items()
            if spellings[name.lower()] == 1
        }
        self._used: set[str] = set()

    def __len__(self) -> int:
        return len(self._exact)

    def find(self, name: str) -> str | None:
        """The member with that file name: spelt exactly so, else letter case aside.

        Where letter case alone tells two members apart, only the exact spelling finds one.
        """
        member = self._exact.get(name) or self._folded.get(name.lower())
        if member is not None:
            self._used.add(member)
        return member

    def unused(self) -> list[str]:
        """Members that were never found, sorted."""
        return sorted(set(self._exact.values()) - self._used)


def open_tree(path: Path, *, key: str) -> RawTree:
    """Open a folder or a zip; `key` is the params key that names it, for messages.

    Archives inside of it are not opened; a warning names them.

    Raises:
        UserError: if it is missing, cannot be listed, is neither folder nor zip, or a zip that
            cannot be trusted.
    """
    if not path.exists():
        raise UserError(
            f"params.yaml: {key}: expected a folder or a .zip, found nothing: {path}; an "
            "experiment in a copy of the repository sees what git or DVC knows (`dvc add`), or an "
            "absolute `raw`"
        )
    try:
        tree = RawTree(_folder_files(path), archive=None) if path.is_dir() else _open_zip(path)
    except UserError as error:
        raise UserError(f"params.yaml: {key}: {path.name} {error}") from None
    nested = [name for name in tree.members if PurePosixPath(name).suffix.lower() in _ARCHIVES]
    if nested:
        logger.warning(
            "%s: %s: not opened: %d archives, %s", key, path.name, len(nested), nested[:3]
        )
    return tree


def without_jpg(path: str) -> str:
    """A picture's path as ids have it. Any other suffix stays: `a.png` may stand beside `a.jpg`."""
    return path[: -len(_JPG)] if path.lower().endswith(_JPG) else path


def composed(name: str) -> str:
    """A name with its letters composed: macOS hands out e and an accent where others write é."""
    return unicodedata.normalize("NFC", name)


def _folder_files(root: Path) -> dict[str, _File]:
    files: dict[str, _File] = {}
    for folder, names in _folders(root):
        above = folder.relative_to(root).as_posix()
        for name in names:
            member = composed(name if above == "." else f"{above}/{name}")
            _add(files, member, folder / name)
    return files


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder with its files' names. Links are followed, but never back to a folder above."""
    identity = functools.cache(_identity)
    for top, subfolders, names in os.walk(root, onerror=_stop, followlinks=True):
        folder = Path(top)
        depth = len(folder.relative_to(root).parts)
        above = {identity(place) for place in (folder, *folder.parents[:depth])}
        subfolders[:] = [name for name in subfolders if identity(folder / name) not in above]
        yield folder, names


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        _stop(error)
    return status.st_dev, status.st_ino


def _stop(error: OSError) -> NoReturn:
    raise UserError(f"cannot be listed: {error.strerror}: {error.filename}")


def _open_zip(path: Path) -> RawTree:
    if not zipfile.is_zipfile(path):
        raise UserError("is neither a folder nor a whole zip")
    try:
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise UserError(f"is a broken zip: {type(error).__name__}: {error}") from None
    try:
        return RawTree(_zip_files(archive, num_bytes=path.stat().st_size), archive=archive)
    except UserError:
        archive.close()
        raise


def _zip_files(archive: zipfile.ZipFile, *, num_bytes: int) -> dict[str, _File]:
    files: dict[str, _File] = {}
    packed = sum(info.compress_size for info in archive.infolist())
    if packed > num_bytes:
        raise UserError(
            f"is broken, or a zip bomb: its members take {packed:,} bytes of {num_bytes:,}"
        )
    for info in archive.infolist():
        name = _zip_name(info)
        if name.endswith("/"):
            continue
        if name.startswith("/") or ".." in name.split("/") or ":" in name.split("/")[0]:
            raise UserError(f"has a member {name!r} that points outside of the archive")
        if info.flag_bits & _ENCRYPTED:
            raise UserError(f"has an encrypted member, {name!r}; unpack the archive")
        # Some tools begin every name with `./`.
        _add(files, "/".join(part for part in name.split("/") if part not in {"", "."}), info)
    return files


def _zip_name(info: zipfile.ZipInfo) -> str:
    """A member's name. Some tools write UTF-8 and do not say so, and Windows' backslashes."""
    name = info.filename
    if not info.flag_bits & _IN_UTF8:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    return composed(name.replace("\\", "/"))


def _add(files: dict[str, _File], name: str, file: _File) -> None:
    if name in files:
        raise UserError(f"has two members {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"has a member whose name is not UTF-8: {name!a}") from None
    files[name] = file


def _is_litter(name: str) -> bool:
    return any(part.startswith(".") or part.lower() in _LITTER for part in name.split("/"))
