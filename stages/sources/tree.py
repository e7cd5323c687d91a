"""A raw dataset as it was downloaded: a folder, or a zip read in place, seen as sorted members."""

import functools
import hashlib
import logging
import os
import posixpath
from collections import Counter
from pathlib import Path
from typing import IO, NoReturn, Self

from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file
from stages.sources.members import (
    UNREADABLE,
    MemberReader,
    Place,
    add_place,
    composed,
    litter_kind,
    litter_of,
    open_zip,
)
from stages.sources.pictures import PICTURE_SUFFIXES, suffix

_ARCHIVES = {".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"}
_MAX_SHOWN = 5

logger = logging.getLogger(__name__)


class RawTree:
    """Members of a folder or zip by posix path, in sorted order; the same on every machine.

    `members` leaves out folders, and what systems leave behind; `litter` counts this by its kind, a
    folder of it once. Used in a `with` block, which closes the archive.
    """

    def __init__(self, places: dict[str, Place], *, reader: MemberReader) -> None:
        litter = {name: path for name in places if (path := litter_of(name)) is not None}
        topmost = sorted(map(posixpath.basename, set(litter.values())))
        self.litter = Counter(map(litter_kind, topmost))
        self._places = {name: place for name, place in places.items() if name not in litter}
        self.reader = reader
        self.members = tuple(sorted(self._places))
        self._folded = {member: f"/{member.lower()}" for member in self.members}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    def place(self, member: str) -> Place:
        """Say where `reader`, here or in another process, finds a member."""
        return self._places[member]

    def read(self, member: str) -> bytes:
        """Read the bytes of a member; raises as `MemberReader.read`."""
        return self.reader.read(member, self.place(member))

    def open(self, member: str) -> IO[bytes]:
        """Open a member for reading bytes; errors are those of `UNREADABLE`."""
        return self.reader.open(self.place(member))

    def find(self, *names: str) -> str | None:
        """Find the member whose path ends with a name (letter case aside); the first name wins.

        Raises:
            UserError: if there are several.
        """
        for name in names:
            tail = f"/{name.lower()}"
            found = [each for each, folded in self._folded.items() if folded.endswith(tail)]
            if len(found) > 1:
                raise UserError(f"{name}: expected one such file, found {len(found)}: {found[:3]}")
            if found:
                return found[0]
        return None

    def pictures_below(self, folder: str) -> list[str]:
        """List pictures that lie, at any depth, below a folder of that name (letter case aside)."""
        below = f"/{folder.lower()}/"
        members = [each for each, folded in self._folded.items() if below in folded]
        return [member for member in members if suffix(member) in PICTURE_SUFFIXES]

    def layout_error(self, name: str, expected: str) -> UserError:
        """Make the error of a source whose files are not laid out as its format says."""
        return UserError(f"source {name}: {expected}; found {list(self.members[:_MAX_SHOWN])}")

    def content_sha256(self) -> str:
        """Hash a zip, or a folder's sorted paths and the bytes of each file (SHA-256).

        Raises:
            UserError: if the zip cannot be read to its end.
        """
        if (archive := self.reader.path) is not None:
            try:
                return sha256_file(archive)
            except OSError as error:
                raise UserError(f"{archive.name}: cannot be read: {error.strerror}") from None
        digest = hashlib.sha256()
        for member in self.members:
            content = hashlib.sha256()
            try:
                with self.open(member) as file:
                    while piece := file.read(2**20):  # a table may be larger than any picture
                        content.update(piece)
                sha256 = content.hexdigest()
            except UNREADABLE:
                sha256 = "unreadable"
            digest.update(f"{member}\0{sha256}\n".encode())
        return digest.hexdigest()


def open_tree(path: Path, *, key: str) -> RawTree:
    """Open a folder, a zip, or a folder inside a zip; `key` says where it is named.

    What systems left behind in it is counted in the log. Archives inside of it are not opened; a
    warning names them.

    Raises:
        UserError: if it is missing, cannot be listed, is neither folder nor zip, or a zip that
            cannot be trusted.
    """
    outer = next((place for place in (path, *path.parents) if place.exists()), path)
    if outer != path and not outer.is_file():
        raise UserError(
            f"{key}: expected a folder, a .zip or a folder inside a .zip, found "
            f"nothing: {path}; an experiment in a copy of the repository sees what git or DVC "
            "knows (`dvc add`), or an absolute `raw`"
        )
    try:
        if path.is_dir():
            tree = RawTree(_places_in_folder(path), reader=MemberReader(None))
        else:
            reader, places = open_zip(outer, below=path.relative_to(outer).as_posix())
            tree = RawTree(places, reader=reader)
    except UserError as error:
        raise UserError(f"{key}: {outer.name} {error}") from None
    if tree.litter:
        kinds = tree.litter.most_common(_MAX_SHOWN)
        shown = ", ".join(f"{kind!r} {count:,}" for kind, count in kinds)
        more = ", …" if len(tree.litter) > _MAX_SHOWN else ""
        logger.info("%s: %s: left out what systems leave behind: %s%s", key, path.name, shown, more)
    nested = [name for name in tree.members if suffix(name) in _ARCHIVES]
    if nested:
        logger.warning(
            "%s: %s: not opened: %d archives, %s", key, path.name, len(nested), nested[:3]
        )
    return tree


def _places_in_folder(root: Path) -> dict[str, Place]:
    """Find every file. Links back to a folder above are not followed.

    A folder of litter, which nobody may be allowed to list, stands among the files.
    """

    def fail(error: OSError) -> NoReturn:
        raise error

    @functools.cache
    def identity(folder: Path) -> tuple[int, int]:
        status = folder.stat()
        return status.st_dev, status.st_ino

    places: dict[str, Place] = {}
    try:
        for top, subfolders, names in os.walk(root, onerror=fail, followlinks=True):
            folder = Path(top)
            inner = folder.relative_to(root)
            for name in names + [name for name in subfolders if litter_kind(name)]:
                add_place(places, composed((inner / name).as_posix()), str(folder / name))
            above = {identity(each) for each in (folder, *folder.parents[: len(inner.parts)])}
            subfolders[:] = [
                name
                for name in subfolders
                if not litter_kind(name) and identity(folder / name) not in above
            ]
    except OSError as error:
        raise UserError(f"cannot be listed: {error.strerror}: {error.filename}") from None
    return places
