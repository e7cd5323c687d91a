"""Any dataset in folders named by split and class; AffectNet as on Kaggle is one."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from posixpath import dirname

from stages.config import Folder7Source, is_not_a_class
from stages.runtime.errors import UserError
from stages.sources.pictures import without_jpg
from stages.sources.rows import Candidate, Reject, Split, canonical, split_of
from stages.sources.tables import quoted
from stages.sources.tree import RawTree

_TOP = "."


@dataclass(frozen=True)
class PlacedFile:
    """A file in a class folder. `path` is its path from the split's folder on."""

    member: str
    path: str
    split: Split
    class_name: str


def read(tree: RawTree, *, name: str, source: Folder7Source) -> Iterator[Candidate | Reject]:
    """Yield every file below a split's folder. The id keeps the folders: stems recur in them.

    Raises:
        UserError: for folders that are no split, or a class folder of the params that is not there.
    """
    rows = list(read_class_folders(tree, name=name))
    names = {row.class_name for row in rows if isinstance(row, PlacedFile)}
    if missing := sorted(set(source.class_folders) - names):
        raise UserError(
            f"params.yaml: standardize.sources.{name}.class_folders: no folders {missing}; "
            f"found: {sorted(names)}"
        )
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        # What the params declare stands above what a name seems to say.
        meaning = source.class_folders.get(row.class_name, row.class_name)
        if (label := canonical(meaning)) is not None:
            key = f"{name}/{without_jpg(row.path)}"
            yield Candidate(row.member, key, row.member, label, row.split, photo=key)
        elif is_not_a_class(meaning):
            yield Reject(row.member, "not_a_class", meaning, row.member)
        else:
            detail = (
                f"expected a folder named by a class, got {quoted(row.class_name)}; class_folders "
                "of a folder7 source says what such a folder means"
            )
            yield Reject(row.member, "label_invalid", detail, row.member)


def read_class_folders(tree: RawTree, *, name: str) -> Iterator[PlacedFile | Reject]:
    """Yield every file of `{train,val,test}/<class>/**`, perhaps below extra folders.

    Files beside the split folders are no rows.

    Raises:
        UserError: for a folder that is no split, split folders at two places, or none.
    """
    root = _root(tree, name=name)
    for member in tree.members:
        # The folders and name from the root on; empty if the member lies elsewhere.
        parts = member.split("/")
        if root != _TOP:
            below = f"{root}/"
            parts = member[len(below) :].split("/") if member.startswith(below) else []
            folder = dirname(member)
            if not folder or root.startswith(f"{folder}/"):
                continue
        if len(parts) == 1:
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
            yield PlacedFile(member, "/".join(parts), split, class_name=parts[1])


def _root(tree: RawTree, *, name: str) -> str:
    """Find the folder that holds the split folders (`_TOP` for the top)."""
    roots: Counter[str] = Counter()
    for member in tree.members:
        folders = member.split("/")[:-1]
        place = next((n for n, folder in enumerate(folders) if split_of(folder)), None)
        if place is not None:
            roots["/".join(folders[:place]) or _TOP] += 1
    if not roots:
        raise tree.layout_error(name, "expected {train,val,test}/<class>/<picture>")
    if len(roots) > 1:
        raise UserError(
            f"source {name}: split folders at several places, expected one: {sorted(roots)}"
        )
    return next(iter(roots))
