"""RAF-DB basic: the list of labels with aligned (or original) pictures, or the Kaggle folders."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from stages.config import RafdbSource
from stages.runtime.errors import UserError
from stages.sources.class_folders import Placed, read_class_folders
from stages.sources.face import Candidate, Reject
from stages.sources.labels import split_of
from stages.sources.tables import text_rows
from stages.sources.tree import Pictures, RawTree

CODES = {
    "1": "Surprise",
    "2": "Fear",
    "3": "Disgust",
    "4": "Happy",
    "5": "Sad",
    "6": "Angry",
    "7": "Neutral",
}
# The official spelling, and the one of some copies.
_LISTS = ("list_patition_label.txt", "list_partition_label.txt")
_ALIGNED = "_aligned"


def read(tree: RawTree, *, name: str, source: RafdbSource) -> Iterator[Candidate | Reject]:
    """Yield every row of the list, or, where there is no list, every picture of the class folders.

    Raises:
        UserError: if there is neither, or a list without pictures.
    """
    assert source.format == "rafdb_basic"
    table = tree.find(_LISTS[0]) or tree.find(_LISTS[1])
    if table is not None:
        yield from _read_list(tree, table, name=name)
        return
    for placed in read_class_folders(tree, name=name):
        yield placed if isinstance(placed, Reject) else _from_folder(placed, name=name)


def _read_list(tree: RawTree, table: str, *, name: str) -> Iterator[Candidate | Reject]:
    pictures, ending = _pictures(tree, name=name)
    seen: dict[str, str] = {}
    for row, text in text_rows(tree, table):
        file_name, *codes = text.rsplit(None, 1)
        path = PurePosixPath(file_name)
        picture = pictures.find(f"{path.stem}{ending}{path.suffix}")
        split = split_of(path.stem.partition("_")[0])
        if not codes:
            yield Reject(row, "row_malformed", f"expected a name and a code, got {text!r}")
        elif split is None:
            yield Reject(row, "row_malformed", f"expected train_ or test_, got {file_name}")
        elif codes[0] not in CODES:
            yield Reject(row, "label_invalid", f"expected 1 to 7, got {codes[0]!r}")
        elif picture is None:
            yield Reject(row, "image_missing", f"{path.stem}{ending}{path.suffix}")
        elif picture in seen:
            yield Reject(row, "row_repeated", f"{file_name} stands in {seen[picture]}")
        else:
            seen[picture] = row
            key = f"{name}/{path.stem}"
            yield Candidate(row, key, picture, CODES[codes[0]], split, photo=key)
    for picture in pictures.unused():
        yield Reject(picture, "label_missing", f"no row in {table}")


def _pictures(tree: RawTree, *, name: str) -> tuple[Pictures, str]:
    """The aligned pictures if there are any, else the original ones; and how their stems end."""
    for folder, ending in (("aligned", _ALIGNED), ("original", "")):
        if len(pictures := tree.pictures_below(folder)):
            return pictures, ending
    raise UserError(f"source {name}: expected pictures below Image/aligned or Image/original")


def _from_folder(placed: Placed, *, name: str) -> Candidate | Reject:
    if placed.class_name not in CODES:
        return Reject(
            placed.member, "label_invalid", f"expected a folder 1 to 7, got {placed.class_name!r}"
        )
    # The same id as by the list: the picture is the same.
    key = f"{name}/{PurePosixPath(placed.member).stem.removesuffix(_ALIGNED)}"
    return Candidate(
        placed.member, key, placed.member, CODES[placed.class_name], placed.split, photo=key
    )
