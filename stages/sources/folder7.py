"""Any dataset in folders named by split and class; AffectNet as on Kaggle is one."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from stages.config import Folder7Source
from stages.sources.class_folders import Placed, read_class_folders
from stages.sources.face import Candidate, Reject
from stages.sources.labels import canonical, is_not_a_class
from stages.sources.tree import RawTree


def read(tree: RawTree, *, name: str, source: Folder7Source) -> Iterator[Candidate | Reject]:
    """Yield every file below a split's folder. The id keeps the folders: stems recur in them."""
    assert source.format == "folder7"
    for placed in read_class_folders(tree, name=name):
        yield placed if isinstance(placed, Reject) else _candidate(placed, name=name)


def _candidate(placed: Placed, *, name: str) -> Candidate | Reject:
    label = canonical(placed.class_name)
    if label is not None:
        key = f"{name}/{PurePosixPath(placed.path).with_suffix('')}"
        return Candidate(placed.member, key, placed.member, label, placed.split, photo=key)
    if is_not_a_class(placed.class_name):
        return Reject(placed.member, "not_a_class", placed.class_name)
    detail = f"expected a folder named by a class, got {placed.class_name!r}"
    return Reject(placed.member, "label_invalid", detail)
