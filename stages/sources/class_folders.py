"""Datasets laid out as `{train,val,test}/<class>/**`, perhaps below extra folders."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from posixpath import dirname

from stages.runtime.errors import UserError
from stages.sources.face import Reject
from stages.sources.labels import Split, split_of
from stages.sources.tree import RawTree

_TOP = "."


@dataclass(frozen=True)
class Placed:
    """A file in a class folder. `path` is its path from the split's folder on."""

    member: str
    path: str
    split: Split
    class_name: str


def read_class_folders(tree: RawTree, *, name: str) -> Iterator[Placed | Reject]:
    """Yield every file below a split's folder; files beside the split folders are no rows.

    Raises:
        UserError: for a folder that is no split, split folders at two places, or none.
    """
    root = _root(tree, name=name)
    for member in tree.members:
        parts = _parts_below(root, member)
        if len(parts) == 1 or _is_above(dirname(member), root):
            continue
        split = split_of(parts[0]) if parts else None
        if split is None:
            raise UserError(
                f"source {name}: {member}: expected a folder train, val, valid, validation or test "
                f"below {root}/"
            )
        if len(parts) == 2:
            yield Reject(member, "label_missing", "in no class folder", member)
        else:
            yield Placed(member, "/".join(parts), split, class_name=parts[1])


def _parts_below(root: str, member: str) -> list[str]:
    """The folders and name of a member from the root on; empty if it lies elsewhere."""
    if root == _TOP:
        return member.split("/")
    return member.removeprefix(f"{root}/").split("/") if member.startswith(f"{root}/") else []


def _is_above(folder: str, root: str) -> bool:
    """Whether a folder lies above the root (the top's name is empty here, as of `dirname`)."""
    return root != _TOP and (not folder or root.startswith(f"{folder}/"))


def _root(tree: RawTree, *, name: str) -> str:
    """The folder that holds the split folders (`_TOP` for the top)."""
    roots: Counter[str] = Counter()
    for member in tree.members:
        folders = member.split("/")[:-1]
        place = next((n for n, folder in enumerate(folders) if split_of(folder)), None)
        if place is not None:
            roots["/".join(folders[:place]) or _TOP] += 1
    if not roots:
        raise UserError(
            f"source {name}: expected {{train,val,test}}/<class>/<picture>, "
            f"found {list(tree.members[:3])}"
        )
    if len(roots) > 1:
        raise UserError(
            f"source {name}: split folders at several places, expected one: {sorted(roots)}"
        )
    return next(iter(roots))
