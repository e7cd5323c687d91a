"""AffectNet with its own labels: `training.csv` and `validation.csv`, or .npy annotations."""

import re
from collections.abc import Iterator

import numpy as np

from stages.config import AffectnetSource
from stages.faces.decode import Box, Pixels
from stages.runtime.errors import UserError
from stages.sources.members import UnreadableMemberError
from stages.sources.pairs import LabelPair, read_pairs
from stages.sources.pictures import PictureIndex, without_jpg
from stages.sources.rows import Candidate, Reject, Split
from stages.sources.tables import ColumnRow, code, column_rows, is_gap, quoted, whole
from stages.sources.tree import RawTree

_CLASSES = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Angry")
CODES = {str(number): label for number, label in enumerate(_CLASSES)}
_NO_CLASSES = {"7": "contempt", "8": "none", "9": "uncertain", "10": "no face"}
_TABLES: dict[str, Split] = {"training.csv": "train", "validation.csv": "val"}
_BEFORE_LABEL = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height")
_COLUMNS = (*_BEFORE_LABEL, "facial_landmarks", "expression", "valence", "arousal")
# AffectNet does not say. What found faces at its time read them so: OpenCV before 3.1, dlib.
_PIXELS: Pixels = "stored"
_SETS: dict[str, Split] = {"train_set": "train", "val_set": "val"}
_LABELS = "_exp.npy"
_FORMS = (
    "expected training.csv or validation.csv with the pictures that they name, "
    "or {train,val}_set/images/<id>.jpg with {train,val}_set/annotations/<id>_exp.npy"
)
# What numpy.save writes for one string or number. numpy.load would evaluate any header and
# allocate whatever it claims.
_NPY = re.compile(
    rb"\x93NUMPY\x01\0..\{'descr': '(?P<type>[<>|](?:[US]\d{1,3}|f[248]|[iu][1248]))', "
    rb"'fortran_order': False, 'shape': \(\), \} *\n(?P<data>.*)",
    re.DOTALL,
)


def read(tree: RawTree, *, name: str, source: AffectnetSource) -> Iterator[Candidate | Reject]:
    """Yield every row of the tables, or every annotated picture of the sets.

    A picture that no table names is a row where it lies in a folder that they refer to.
    AffectNet's automatically annotated part is not read. There may be one form, not both.
    """
    assert source.format == "affectnet"
    tables = {member: split for table, split in _TABLES.items() if (member := tree.find(table))}
    sets = next((path for path in tree.members if path.lower().endswith(_LABELS)), None)
    if tables and sets:
        both = [next(iter(tables)), sets]
        raise UserError(f"source {name}: {_FORMS}, and not both; found {both}")
    if tables:
        yield from _read_tables(tree, tables, name=name)
    elif sets:
        for pair in read_pairs(tree, name=name, splits=_SETS, folder="annotations", ending=_LABELS):
            yield pair if isinstance(pair, Reject) else _from_pair(tree, pair, name=name)
    else:
        raise tree.layout_error(name, _FORMS)


def _read_tables(
    tree: RawTree, tables: dict[str, Split], *, name: str
) -> Iterator[Candidate | Reject]:
    pictures = PictureIndex(tree.members)
    rows = []
    for table, split in tables.items():
        for row in column_rows(tree, table, (*_BEFORE_LABEL, "expression"), fixed_order=_COLUMNS):
            path = row.fields[0].replace("\\", "/").strip("/")
            rows.append((row, split, path, pictures.find(path)))
    # How each picture is spelt is not known before all are found.
    for row, split, path, picture in rows:
        key = f"{name}/{without_jpg(pictures.name(picture))}" if picture else ""
        yield _from_row(row, path, picture, key=key, split=split)
    for picture in pictures.unnamed():
        yield Reject(picture, "label_missing", f"no row in {' or '.join(tables)}", picture)


def _from_row(
    row: ColumnRow, path: str, picture: str | None, *, key: str, split: Split
) -> Candidate | Reject:
    _, *box_fields, expression = row.fields
    if row.problem or not path:
        return Reject(row.row, "row_malformed", row.problem or "names no picture", picture)
    label = CODES.get(code(expression))
    if label is None:
        return _without_class(row.row, expression, picture)
    if picture is None:
        return Reject(row.row, "image_missing", quoted(path))
    if all(map(is_gap, box_fields)):
        return Reject(row.row, "box_missing", "no box", picture)
    numbers = [value for field in box_fields if (value := whole(field)) is not None]
    if len(numbers) != len(box_fields):
        detail = f"expected x, y, width and height in px, got {quoted(', '.join(box_fields))}"
        return Reject(row.row, "row_malformed", detail, picture)
    x, y, width, height = numbers
    box = Box(x, y, x + width, y + height, unit="px", pixels=_PIXELS)
    return Candidate(row.row, key, picture, label, split, photo=key, box=box)


def _without_class(row: str, expression: str, picture: str | None) -> Reject:
    if meaning := _NO_CLASSES.get(code(expression)):
        return Reject(row, "not_a_class", meaning, picture)
    return Reject(row, "label_invalid", f"expected 0 to 10, got {quoted(expression)}", picture)


def _from_pair(tree: RawTree, pair: LabelPair, *, name: str) -> Candidate | Reject:
    number = _read_number(tree, pair.labels)
    if number is None:
        detail = "expected the .npy file of one number"
        return Reject(pair.labels, "row_malformed", detail, pair.picture)
    label = CODES.get(str(number))
    if label is None:
        return _without_class(pair.labels, str(number), pair.picture)
    if pair.picture is None:
        return Reject(pair.labels, "image_missing", pair.name)
    key = f"{name}/{pair.split}/{pair.name}"
    return Candidate(pair.labels, key, pair.picture, label, pair.split, photo=key)


def _read_number(tree: RawTree, member: str) -> int | None:
    """Read the whole number, perhaps as text, of a .npy file; None if it holds anything else."""
    try:
        match = _NPY.fullmatch(tree.read(member))
        if match is None:
            return None
        (text,) = np.frombuffer(match["data"], match["type"].decode()).astype(str)
    # numpy raises SystemError for a letter that does not exist.
    except (UnreadableMemberError, ValueError, SystemError):
        return None
    return whole(text)
