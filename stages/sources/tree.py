"""A raw dataset as it was downloaded: a folder, or a zip read in place, seen as sorted members."""

import hashlib
import io
import os
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Self

from stages.runtime.errors import UserError

# What operating systems leave behind; never a row of a dataset.
_LITTER = {"__macosx", "thumbs.db", "desktop.ini"}
_ENCRYPTED = 0x1
PICTURE_SUFFIXES = {
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip


class UnreadableMemberError(ValueError):
    """A member whose bytes cannot be had: a broken zip entry, a bad disk."""


class RawTree:
    """Members of a folder or zip by posix path, in sorted order; the same on every machine.

    `members` leaves out folders, hidden files and the litter of operating systems. Used in a `with`
    block, which closes the archive.
    """

    def __init__(
        self, files: dict[str, Path | zipfile.ZipInfo], *, archive: zipfile.ZipFile | None
    ) -> None:
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
            UnreadableMemberError: if they cannot be read.
        """
        try:
            with self.open(member) as file:
                return file.read()
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise UnreadableMemberError(f"{member}: {type(error).__name__}") from None

    def open(self, member: str) -> IO[bytes]:
        """Open a member for reading bytes."""
        file = self._files[member]
        if isinstance(file, Path):
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

    def _member_sha256(self, member: str) -> str:
        try:
            return hashlib.sha256(self.read(member)).hexdigest()
        except UnreadableMemberError:
            return "unreadable"


class Pictures:
    """Pictures of a tree by file name; `unused` are those that nobody has looked up."""

    def __init__(self, members: Iterable[str]) -> None:
        self._exact: dict[str, str] = {}
        for member in members:
            name = PurePosixPath(member).name
            if name in self._exact:
                raise UserError(f"{name}: expected once, found {self._exact[name]} and {member}")
            self._exact[name] = member
        self._folded = {name.lower(): member for name, member in self._exact.items()}
        self._used: set[str] = set()

    def __len__(self) -> int:
        return len(self._exact)

    def find(self, name: str) -> str | None:
        """The member with that file name: spelt exactly so, else letter case aside."""
        member = self._exact.get(name) or self._folded.get(name.lower())
        if member is not None:
            self._used.add(member)
        return member

    def unused(self) -> list[str]:
        """Members that were never found, sorted."""
        return sorted(set(self._exact.values()) - self._used)


def open_tree(path: Path, *, key: str) -> RawTree:
    """Open a folder or a zip; `key` is the params key that names it, for messages.

    Raises:
        UserError: if it is missing, neither folder nor zip, or a zip that cannot be trusted.
    """
    if path.is_dir():
        return RawTree(dict(_folder_files(path)), archive=None)
    if not path.exists():
        raise UserError(f"params.yaml: {key}: expected a folder or a .zip, found nothing: {path}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"params.yaml: {key}: {path.name} is neither a folder nor a whole zip")
    archive = zipfile.ZipFile(path)
    try:
        return RawTree(_zip_files(archive), archive=archive)
    except UserError as error:
        archive.close()
        raise UserError(f"params.yaml: {key}: {path.name}: {error}") from None


def _folder_files(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            file = Path(folder, name)
            yield _normal(file.relative_to(root).as_posix()), file


def _zip_files(archive: zipfile.ZipFile) -> dict[str, Path | zipfile.ZipInfo]:
    files: dict[str, Path | zipfile.ZipInfo] = {}
    for info in archive.infolist():
        # Some Windows tools write backslashes, against the standard.
        name = _normal(info.filename.replace("\\", "/"))
        if name.endswith("/"):
            continue
        if name in files:
            raise UserError(f"member {name!r} occurs twice")
        if name.startswith("/") or ".." in name.split("/") or ":" in name.split("/")[0]:
            raise UserError(f"member {name!r} points outside of the archive")
        if info.flag_bits & _ENCRYPTED:
            raise UserError(f"member {name!r} is encrypted; unpack the archive")
        files[name] = info
    return files


def _normal(name: str) -> str:
    # macOS may hand out decomposed letters; an id must not depend on that.
    return unicodedata.normalize("NFC", name)


def _is_litter(name: str) -> bool:
    return any(part.startswith(".") or part.lower() in _LITTER for part in name.split("/"))
