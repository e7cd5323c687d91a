"""The pictures of a raw dataset, looked up by the names that its tables give them."""

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from stages.runtime.errors import UserError

_JPG = ".jpg"
PICTURE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


def suffix(member: str) -> str:
    """Cut out how a member's name ends, from the last dot on, in small letters."""
    return posixpath.splitext(member)[1].lower()


def without_jpg(path: str) -> str:
    """Spell a picture's path as ids do. Other suffixes stay: `a.png` may stand beside `a.jpg`."""
    return path[: -len(_JPG)] if path.lower().endswith(_JPG) else path


class PictureIndex:
    """Pictures by file name; remembers which of them were looked up."""

    def __init__(self, members: Iterable[str]) -> None:
        """Index the members.

        Raises:
            UserError: if two have the same file name.
        """
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
        """Find the member with that file name: spelt exactly so, else letter case aside.

        Where letter case alone tells two members apart, only the exact spelling finds one.
        """
        member = self._exact.get(name) or self._folded.get(name.lower())
        if member is not None:
            self._used.add(member)
        return member

    def unused(self) -> list[str]:
        """List the members that were never found, sorted."""
        return sorted(set(self._exact.values()) - self._used)


class PathIndex:
    """Members by the end of their path, letter case aside; remembers what was asked for."""

    def __init__(self, members: Sequence[str]) -> None:
        self._members = members
        # By the number of names in the end of a path: that end in lower case -> members.
        self._by_depth: dict[int, dict[str, list[str]]] = {}
        self._max_depth = max((member.count("/") + 1 for member in members), default=0)
        self._depth_of: dict[str, int] = {}
        self._places: set[str] = set()
        self._folders: set[str] = set()

    def find(self, path: str) -> str | None:
        """Find the member whose path ends with `path`: spelt exactly so, else letter case aside.

        Where letter case alone tells two members apart, only the exact spelling finds one.

        Raises:
            UserError: if there are several.
        """
        depth = path.count("/") + 1
        self._folders.add(_above(path.lower(), depth=1))
        if depth not in self._by_depth and depth <= self._max_depth:
            ends = self._by_depth[depth] = {}
            for member in self._members:
                end = "/".join(member.lower().split("/")[-depth:])
                ends.setdefault(end, []).append(member)
        alike = self._by_depth.get(depth, {}).get(path.lower(), [])
        exact = [member for member in alike if f"/{member}".endswith(f"/{path}")]
        if len(exact) > 1:
            raise UserError(f"{path}: expected one such picture, found {len(exact)}: {exact[:3]}")
        if not exact and len(alike) != 1:
            return None
        member = (exact or alike)[0]
        self._depth_of[member] = min(depth, self._depth_of.get(member, depth))
        self._places.add(_above(member.lower(), depth=depth))
        return member

    def name(self, member: str) -> str:
        """Cut a member's path to the shortest end by which it was found.

        No other member has this name, for then that end would have meant two.
        """
        return "/".join(member.split("/")[-self._depth_of[member] :])

    def unnamed(self) -> Iterator[str]:
        """Yield pictures never found in a folder asked for, below a place of others found."""
        is_watched: dict[str, bool] = {}
        for member in self._members:
            folder = _above(member.lower(), depth=1)
            if folder not in is_watched:
                is_watched[folder] = self._is_watched(folder)
            if not is_watched[folder] or member in self._depth_of:
                continue
            if suffix(member) in PICTURE_SUFFIXES:
                yield member

    def _is_watched(self, folder: str) -> bool:
        parts = folder.split("/") if folder else []
        return any(
            "/".join(parts[:n]) in self._places and "/".join(parts[n:]) in self._folders
            for n in range(len(parts) + 1)
        )


def _above(path: str, *, depth: int) -> str:
    """Cut off the last `depth` parts of a path; empty for the top."""
    return "/".join(path.split("/")[:-depth])
