"""RAF-DB, basic or compound: a list of labels with its pictures, or the Kaggle folders."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from stages.config import RafdbCompoundSource, RafdbSource
from stages.runtime.errors import UserError
from stages.sources.class_folders import Placed, read_class_folders
from stages.sources.face import Candidate, Reject
from stages.sources.labels import split_of
from stages.sources.numbers import code
from stages.sources.tables import quoted, text_rows
from stages.sources.tree import Pictures, RawTree

CODES = {
    "rafdb_basic": {
        "1": "Surprise",
        "2": "Fear",
        "3": "Disgust",
        "4": "Happy",
        "5": "Sad",
        "6": "Angry",
        "7": "Neutral",
    },
    # A compound emotion counts as the first of its pair.
    "rafdb_compound_mapped": {
        "1": "Happy",  # and surprised
        "2": "Happy",  # and disgusted
        "3": "Sad",  # and fearful
        "4": "Sad",  # and angry
        "5": "Sad",  # and surprised
        "6": "Sad",  # and disgusted
        "7": "Fear",  # and angry
        "8": "Fear",  # and surprised
        "9": "Angry",  # and surprised
        "10": "Angry",  # and disgusted
        "11": "Disgust",  # and surprised
    },
}
# The official spelling, and the one of some copies.
_LISTS = ("list_patition_label.txt", "list_partition_label.txt")
_ALIGNED = "_aligned"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RafPictures:
    """The pictures that a list of RAF-DB or RAF-ML means: `ending` is added to its names' stems."""

    pictures: Pictures
    ending: str

    def find(self, file_name: str) -> str | None:
        """The picture of a file name in the list, such as `train_00001.jpg`, or None."""
        return self.pictures.find(self.spelt(file_name))

    def spelt(self, file_name: str) -> str:
        """The picture's own file name, such as `train_00001_aligned.jpg`."""
        path = PurePosixPath(file_name)
        return f"{path.stem}{self.ending}{path.suffix}"

    def unused(self) -> list[str]:
        """Pictures that were never found, sorted."""
        return self.pictures.unused()


def read(
    tree: RawTree, *, name: str, source: RafdbSource | RafdbCompoundSource
) -> Iterator[Candidate | Reject]:
    """Yield every row of the list, or, where there is no list, every picture of the class folders.

    Raises:
        UserError: if there is neither, or a list without pictures.
    """
    codes = CODES[source.format]
    table = tree.find(_LISTS[0]) or tree.find(_LISTS[1])
    if table is not None:
        yield from _read_list(tree, table, name=name, codes=codes)
        return
    for placed in read_class_folders(tree, name=name):
        yield placed if isinstance(placed, Reject) else _from_folder(placed, name=name, codes=codes)


def raf_pictures(tree: RawTree, *, name: str) -> RafPictures:
    """The aligned pictures if there are any, else the original ones, taken whole.

    Raises:
        UserError: if there are neither.
    """
    if len(aligned := tree.pictures_below("aligned")):
        return RafPictures(aligned, ending=_ALIGNED)
    if not len(original := tree.pictures_below("original")):
        raise UserError(
            f"source {name}: expected pictures below Image/aligned or Image/original, "
            f"found {list(tree.members[:5])}"
        )
    logger.warning(
        "source %s: no aligned pictures; the original photos are taken whole, "
        "and native_px is the photo's, not the face's",
        name,
    )
    return RafPictures(original, ending="")


def _read_list(
    tree: RawTree, table: str, *, name: str, codes: Mapping[str, str]
) -> Iterator[Candidate | Reject]:
    pictures = raf_pictures(tree, name=name)
    for row, text in text_rows(tree, table):
        file_name, *fields = text.rsplit(None, 1)
        picture = pictures.find(file_name)
        stem = PurePosixPath(file_name).stem
        split = split_of(stem.partition("_")[0])
        if not fields:
            detail = f"expected a name and a code, got {quoted(text)}"
            yield Reject(row, "row_malformed", detail, picture)
        elif split is None:
            detail = f"expected train_ or test_, got {quoted(file_name)}"
            yield Reject(row, "row_malformed", detail, picture)
        elif (label := codes.get(code(fields[0]))) is None:
            yield Reject(row, "label_invalid", _expected(codes, fields[0]), picture)
        elif picture is None:
            yield Reject(row, "image_missing", quoted(pictures.spelt(file_name)))
        else:
            key = f"{name}/{stem}"
            yield Candidate(row, key, picture, label, split, photo=key)
    for picture in pictures.unused():
        yield Reject(picture, "label_missing", f"no row in {table}", picture)


def _from_folder(placed: Placed, *, name: str, codes: Mapping[str, str]) -> Candidate | Reject:
    label = codes.get(placed.class_name)
    if label is None:
        detail = f"a folder {_expected(codes, placed.class_name)}"
        return Reject(placed.member, "label_invalid", detail, placed.member)
    # The same id as by the list: the picture is the same.
    key = f"{name}/{PurePosixPath(placed.member).stem.removesuffix(_ALIGNED)}"
    return Candidate(placed.member, key, placed.member, label, placed.split, photo=key)


def _expected(codes: Mapping[str, str], got: str) -> str:
    return f"expected 1 to {len(codes)}, got {quoted(got)}"
