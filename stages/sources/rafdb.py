"""RAF-DB, basic or compound: a list of labels with its pictures, or the Kaggle folders."""

import logging
from collections.abc import Iterator
from pathlib import PurePosixPath

from stages.config import RafdbCompoundSource, RafdbSource
from stages.sources.folder7 import read_class_folders
from stages.sources.pictures import PictureIndex
from stages.sources.rows import Candidate, Reject, split_of
from stages.sources.tables import code, quoted, text_rows
from stages.sources.tree import RawTree

_BASIC = ("Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral")
# A compound emotion counts as the first of its pair: happily surprised, happily disgusted, ...
_COMPOUND = [*["Happy"] * 2, *["Sad"] * 4, *["Fear"] * 2, *["Angry"] * 2, "Disgust"]
CODES = {
    "rafdb_basic": {str(number): label for number, label in enumerate(_BASIC, start=1)},
    "rafdb_compound_mapped": {str(number): label for number, label in enumerate(_COMPOUND, 1)},
}
_ALIGNED = "_aligned"

logger = logging.getLogger(__name__)


class RafPictures(PictureIndex):
    """The pictures that a list of RAF-DB or RAF-ML means: aligned, else original, taken whole."""

    def __init__(self, tree: RawTree, *, name: str) -> None:
        aligned, original = map(tree.pictures_below, ("aligned", "original"))
        if not aligned and not original:
            expected = "expected pictures below Image/aligned or Image/original"
            raise tree.layout_error(name, expected)
        if not aligned:
            logger.warning(
                "source %s: no aligned pictures; the original photos are taken whole, "
                "and native_px is the photo's, not the face's",
                name,
            )
        super().__init__(aligned or original)
        self._ending = _ALIGNED if aligned else ""

    def find(self, path: str) -> str | None:
        """Find the picture of a file name in the list, such as `train_00001.jpg`."""
        return super().find(self.spelt(path))

    def spelt(self, name: str) -> str:
        """Spell the picture's own file name, such as `train_00001_aligned.jpg`."""
        path = PurePosixPath(name)
        return f"{path.stem}{self._ending}{path.suffix}"


def read(
    tree: RawTree, *, name: str, source: RafdbSource | RafdbCompoundSource
) -> Iterator[Candidate | Reject]:
    """Yield every row of the list or, where there is none, every picture of the class folders."""
    codes = CODES[source.format]
    expected = f"expected 1 to {len(codes)}, got"
    # The official spelling, and the spelling of some copies.
    table = tree.find("list_patition_label.txt", "list_partition_label.txt")
    if table is None:
        for file in read_class_folders(tree, name=name):
            if isinstance(file, Reject):
                yield file
            elif (label := codes.get(file.class_name)) is None:
                detail = f"a folder {expected} {quoted(file.class_name)}"
                yield Reject(file.member, "label_invalid", detail, file.member)
            else:
                # The same id as by the list: the picture is the same.
                key = f"{name}/{PurePosixPath(file.member).stem.removesuffix(_ALIGNED)}"
                yield Candidate(file.member, key, file.member, label, file.split, photo=key)
        return
    pictures = RafPictures(tree, name=name)
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
            yield Reject(row, "label_invalid", f"{expected} {quoted(fields[0])}", picture)
        elif picture is None:
            yield Reject(row, "image_missing", quoted(pictures.spelt(file_name)))
        else:
            key = f"{name}/{stem}"
            yield Candidate(row, key, picture, label, split, photo=key)
    for picture in pictures.unused():
        yield Reject(picture, "label_missing", f"no row in {table}", picture)
