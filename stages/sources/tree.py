"""A raw dataset as it was downloaded: a folder, or a zip read in place, seen as sorted members."""

import functools
import hashlib
import io
import logging
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NoReturn, Self

from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file
from stages.sources.archive import open_zip
from stages.sources.members import UNREADABLE, MemberReader, Place, add_place
from stages.sources.names import composed, litter_kind, litter_of

_JPG = ".jpg"
_ARCHIVES = {".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"}
_MOST_SHOWN = 5
PICTURE_SUFFIXES = {
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip

logger = logging.getLogger(__name__)


class RawTree:
    """Members of a folder or zip by posix path, in sorted order; the same on every machine.

    `members` leaves out folders, and what systems leave behind; `litter` counts this by its kind, a
    folder of it once. Used in a `with` block, which closes the archive.
    """

    def __init__(self, places: dict[str, Place], *, reader: MemberReader) -> None:
        litter = {name: path for name in places if (path := litter_of(name)) is not None}
        self.litter = Counter(
            litter_kind(posixpath.basename(path)) for path in set(litter.values())
        )
        self._places = {name: place for name, place in places.items() if name not in litter}
        self.reader = reader
        self.members = tuple(sorted(self._places))
        self._folded = [f"/{member.lower()}" for member in self.members]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    def place(self, member: str) -> Place:
        """Where `reader`, here or in another process, finds a member."""
        return self._places[member]

    def read(self, member: str) -> bytes:
        """The bytes of a member.

        Raises:
            UnreadableMemberError: if they cannot be read, or are more than any picture has.
        """
        return self.reader.read(member, self.place(member))

    def open(self, member: str) -> IO[bytes]:
        """Open a member for reading bytes; errors are those of `UNREADABLE`."""
        return self.reader.open(self.place(member))

    def open_text(self, member: str) -> io.TextIOWrapper:
        """Open a member as UTF-8 text, with or without a byte order mark; line ends are kept."""
        return io.TextIOWrapper(self.open(member), encoding="utf-8-sig", newline="")

    def find(self, name: str) -> str | None:
        """The member whose path ends with `name` (letter case aside), or None.

        Raises:
            UserError: if there are several.
        """
        tail = f"/{name.lower()}"
        found = [
            member
            for member, folded in zip(self.members, self._folded, strict=True)
            if folded.endswith(tail)
        ]
        if len(found) > 1:
            raise UserError(f"{name}: expected one such file, found {len(found)}: {found[:3]}")
        return found[0] if found else None

    def pictures_below(self, folder: str) -> "Pictures":
        """The pictures that lie, at any depth, below a folder of that name (letter case aside)."""
        below = f"/{folder.lower()}/"
        return Pictures(
            member
            for member in self.members
            if below in f"/{member.lower()}" and suffix(member) in PICTURE_SUFFIXES
        )

    def content_sha256(self) -> str:
        """SHA-256 of a zip, or over a folder's sorted paths and the SHA-256 of each one's bytes.

        Raises:
            UserError: if the zip cannot be read to its end.
        """
        if self.reader.path is not None:
            return _archive_sha256(self.reader.path)
        digest = hashlib.sha256()
        for member in self.members:
            digest.update(f"{member}\0{self._member_sha256(member)}\n".encode())
        return digest.hexdigest()

    def _member_sha256(self, member: str) -> str:
        try:
            with self.open(member) as file:
                digest = hashlib.sha256()
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
            name = posixpath.basename(member)
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
    """Open a folder, a zip, or a folder inside a zip; `key` is the params key that names it.

    What systems left behind in it is counted in the log. Archives inside of it are not opened; a
    warning names them.

    Raises:
        UserError: if it is missing, cannot be listed, is neither folder nor zip, or a zip that
            cannot be trusted.
    """
    outer = next((place for place in (path, *path.parents) if place.exists()), path)
    if outer != path and not outer.is_file():
        raise UserError(
            f"params.yaml: {key}: expected a folder, a .zip or a folder inside a .zip, found "
            f"nothing: {path}; an experiment in a copy of the repository sees what git or DVC "
            "knows (`dvc add`), or an absolute `raw`"
        )
    try:
        tree = _open_folder(path) if path.is_dir() else _open_zip(path, outer=outer)
    except UserError as error:
        raise UserError(f"params.yaml: {key}: {outer.name} {error}") from None
    if tree.litter:
        logger.info("%s: %s: left out what systems leave behind: %s", key, path.name, _counts(tree))
    nested = [name for name in tree.members if suffix(name) in _ARCHIVES]
    if nested:
        logger.warning(
            "%s: %s: not opened: %d archives, %s", key, path.name, len(nested), nested[:3]
        )
    return tree


def _counts(tree: RawTree) -> str:
    """The kinds of litter in a tree, the most frequent first."""
    kinds = sorted(tree.litter.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{kind!r} {count:,}" for kind, count in kinds[:_MOST_SHOWN])
    return f"{shown}, …" if len(kinds) > _MOST_SHOWN else shown


def without_jpg(path: str) -> str:
    """A picture's path as ids have it. Any other suffix stays: `a.png` may stand beside `a.jpg`."""
    return path[: -len(_JPG)] if path.lower().endswith(_JPG) else path


def suffix(member: str) -> str:
    """How a member's name ends, from the last dot on, in small letters; empty without a dot."""
    return posixpath.splitext(member)[1].lower()


def _open_folder(root: Path) -> RawTree:
    places: dict[str, Place] = {}
    for folder, names in _folders(root):
        above = folder.relative_to(root).as_posix()
        for name in names:
            member = composed(name if above == "." else f"{above}/{name}")
            add_place(places, member, str(folder / name))
    return RawTree(places, reader=MemberReader(None))


def _open_zip(path: Path, *, outer: Path) -> RawTree:
    reader, places = open_zip(outer, below=path.relative_to(outer).as_posix())
    return RawTree(places, reader=reader)


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder with its files' names. Links are followed, but never back to a folder above.

    A folder of litter, which nobody may be allowed to list, stands among the files.
    """
    identity = functools.cache(_identity)
    for top, subfolders, names in os.walk(root, onerror=_stop, followlinks=True):
        folder = Path(top)
        names += [name for name in subfolders if litter_kind(name)]
        subfolders[:] = [name for name in subfolders if not litter_kind(name)]
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


def _archive_sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise UserError(f"{path.name}: cannot be read: {error.strerror}") from None
