"""FER2013: the csv of pixels, which FERPlus has too, or `{train,test}/<class>/*.jpg`."""

from collections.abc import Iterator

import cv2
import numpy as np

from stages.config import Fer2013Source, Folder7Source
from stages.runtime.errors import UserError
from stages.sources import folder7
from stages.sources.pictures import PICTURE_SUFFIXES, suffix
from stages.sources.rows import FER2013_CODES, Candidate, Reject, Split, split_of
from stages.sources.tables import ColumnRow, code, column_rows, quoted
from stages.sources.tree import RawTree

SIDE_PX = 48
USAGES: dict[str, Split] = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
PIXEL_TABLES = ("fer2013.csv", "icml_face_data.csv")
_FORMS = f"{' (or '.join(PIXEL_TABLES)}), or {{train,test}}/<class>/<picture>"


def read(tree: RawTree, *, name: str, source: Fer2013Source) -> Iterator[Candidate | Reject]:
    """Yield every row of the csv, or every file of the class folders: both are the same faces."""
    table = tree.find(*PIXEL_TABLES)
    pictures = [member for member in tree.members if suffix(member) in PICTURE_SUFFIXES]
    in_folders = next((p for p in pictures if any(map(split_of, p.split("/")[:-1]))), None)
    if table and in_folders:
        raise UserError(f"source {name}: expected either {_FORMS}; found {table} and {in_folders}")
    if table:
        for number, row in enumerate(column_rows(tree, table, ("emotion", "usage", "pixels"))):
            yield _from_row(row, key=f"{name}/{row_name(number)}")
    elif in_folders:
        # Folders are named by class; their numbers, where copies have them, differ.
        named = Folder7Source(format="folder7", path=source.path)
        yield from folder7.read(tree, name=name, source=named)
    else:
        raise tree.layout_error(name, f"expected {_FORMS}")


def row_name(number: int) -> str:
    """Name the picture of the `number`-th row, counted from 0, for ids: `row0000123`."""
    return f"row{number:07d}"


def as_png(pixels: str) -> bytes | None:
    """Encode pixel values in words; None if they are not the 48 x 48 grey values expected."""
    words = pixels.split()
    digits = "".join(words)
    if len(words) != SIDE_PX**2 or not (digits.isascii() and digits.isdigit()):
        return None
    try:
        values = np.frombuffer(bytes(map(int, words)), np.uint8)
    except ValueError:  # above 255
        return None
    done, data = cv2.imencode(".png", values.reshape(SIDE_PX, SIDE_PX))
    assert done
    return bytes(data)


def _from_row(row: ColumnRow, *, key: str) -> Candidate | Reject:
    emotion, usage, pixels = row.fields
    if row.problem:
        return Reject(row.row, "row_malformed", row.problem)
    if usage not in USAGES:
        detail = f"expected a Usage of {list(USAGES)}, got {quoted(usage)}"
        return Reject(row.row, "row_malformed", detail)
    label = FER2013_CODES.get(code(emotion))
    if label is None:
        return Reject(row.row, "label_invalid", f"expected 0 to 6, got {quoted(emotion)}")
    image = as_png(pixels)
    if image is None:
        return Reject(row.row, "image_unreadable", "expected 48 x 48 grey values")
    return Candidate(row.row, key, row.row, label, USAGES[usage], photo=key, image=image)
