"""The pictures of a raw dataset, looked up by the names that its tables give them."""

import posixpath
from collections import defaultdict
from collections.abc import Sequence

from stages.runtime.errors import UserError

PICTURE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


def suffix(member: str) -> str:
    """Cut out how a member's name ends, from the last dot on, in small letters."""
    return posixpath.splitext(member)[1].lower()


def without_jpg(path: str) -> str:
    """Spell a picture's path as ids do. Other suffixes stay: `a.png` may stand beside `a.jpg`."""
    return path[:-4] if path.lower().endswith(".jpg") else path


class PictureIndex:
    """Members by the end of their path, letter case aside; remembers what was asked for."""

    def __init__(self, members: Sequence[str]) -> None:
        self._members = members
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for member in members:
            self._by_name[posixpath.basename(member).lower()].append(member)
        self._depth_of: dict[str, int] = {}
        # Folders that paths name, and what lies above a path that was found; in lower case.
        self._folders: set[str] = set()
        self._places: set[str] = set()

    def find(self, path: str) -> str | None:
        """Find the member whose path ends with `path`: spelt exactly so, else letter case aside.

        Where letter case alone tells two members apart, only the exact spelling finds one.

        Raises:
            UserError: if there are several.
        """
        folded, depth = path.lower(), path.count("/") + 1
        self._folders.add(_folder(folded))
        named = self._by_name.get(posixpath.basename(folded), [])
        alike = [member for member in named if f"/{member.lower()}".endswith(f"/{folded}")]
        exact = [member for member in alike if f"/{member}".endswith(f"/{path}")]
        if len(exact) > 1:
            raise UserError(f"{path}: expected one such picture, found {len(exact)}: {exact[:3]}")
        if not exact and len(alike) != 1:
            return None
        member = (exact or alike)[0]
        self._depth_of[member] = min(depth, self._depth_of.get(member, depth))
        self._places.add(member.lower().removesuffix(folded))
        return member

    def name(self, member: str) -> str:
        """Cut a member's path to the shortest end by which it was found.

        No other member has this name, for then that end would have meant two.
        """
        return "/".join(member.split("/")[-self._depth_of[member] :])

    def unused(self) -> list[str]:
        """List the members that were never found."""
        return [member for member in self._members if member not in self._depth_of]

    def unnamed(self) -> list[str]:
        """List pictures never found in a folder asked for, below a place of others found."""
        watched = {place + folder for place in self._places for folder in self._folders}
        return [
            member
            for member in self.unused()
            if _folder(member.lower()) in watched and suffix(member) in PICTURE_SUFFIXES
        ]


def _folder(path: str) -> str:
    """Cut a path after its last slash; empty for the top."""
    return path[: path.rfind("/") + 1]
