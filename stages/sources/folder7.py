"""Any dataset in folders named by split and class; AffectNet as on Kaggle is one."""

from collections.abc import Iterator
from posixpath import dirname
from typing import NamedTuple

from stages.config import Folder7Source, is_not_a_class
from stages.runtime.errors import UserError
from stages.sources.pictures import without_jpg
from stages.sources.rows import Candidate, Reject, Split, canonical, split_of
from stages.sources.tables import quoted
from stages.sources.tree import RawTree


class PlacedFile(NamedTuple):
    """A file in a class folder. `path` is its path from the split's folder on."""

    member: str
    path: str
    split: Split
    class_name: str


def read(tree: RawTree, *, name: str, source: Folder7Source) -> Iterator[Candidate | Reject]:
    """Yield every file below a split's folder. The id keeps the folders: stems recur in them."""
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
    roots = set()
    for member in tree.members:
        folders = member.split("/")[:-1]
        place = next((n for n, folder in enumerate(folders) if split_of(folder)), None)
        if place is not None:
            roots.add("".join(f"{folder}/" for folder in folders[:place]))
    if not roots:
        raise tree.layout_error(name, "expected {train,val,test}/<class>/<picture>")
    if len(roots) > 1:
        places = sorted(root[:-1] or "." for root in roots)
        raise UserError(f"source {name}: split folders at several places, expected one: {places}")
    root = roots.pop()
    for member in tree.members:
        folder = dirname(member)
        if not folder or root.startswith(f"{folder}/"):
            continue
        # A member that is not below the root has no folder of a split.
        path = member.removeprefix(root)
        first, *inner = path.split("/")
        split = split_of(first)
        if split is None:
            raise UserError(
                f"source {name}: {member}: expected a folder train, val, valid, validation or test "
                f"below {root or './'}"
            )
        if len(inner) == 1:
            yield Reject(member, "label_missing", "in no class folder", member)
        else:
            yield PlacedFile(member, path, split, class_name=inner[0])
