"""AffectNet with its own labels: `training.csv` and `validation.csv`, or .npy annotations."""

import re
import struct
import unicodedata
from collections.abc import Iterator
from typing import Literal

from stages.config import AffectnetSource
from stages.faces.decode import Box, Pixels
from stages.runtime.errors import UserError
from stages.sources.members import UnreadableMemberError
from stages.sources.pairs import LabelPair, PairLayout, read_pairs
from stages.sources.pictures import PathIndex, without_jpg
from stages.sources.rows import Candidate, Reject, Split
from stages.sources.tables import ColumnRow, code, column_rows, is_gap, quoted, whole
from stages.sources.tree import RawTree

_CLASSES = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Angry")
CODES = {str(number): label for number, label in enumerate(_CLASSES)}
_NO_CLASSES = {"7": "contempt", "8": "none", "9": "uncertain", "10": "no face"}
_TABLES: dict[str, Split] = {"training.csv": "train", "validation.csv": "val"}
_BEFORE_LABEL = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height")
_COLUMNS = (*_BEFORE_LABEL, "facial_landmarks", "expression", "valence", "arousal")
_USED = (*_BEFORE_LABEL, "expression")
# AffectNet does not say. What found faces at its time read them so: OpenCV before 3.1, dlib.
_PIXELS: Pixels = "stored"
_LAYOUT = PairLayout(
    {"train_set": "train", "val_set": "val"}, labels="annotations", ending="_exp.npy"
)
_FORMS = (
    "expected training.csv or validation.csv with the pictures that they name, "
    "or {train,val}_set/images/<id>.jpg with {train,val}_set/annotations/<id>_exp.npy"
)
# By their size in bytes, as `struct` calls them.
_FLOATS = {2: "e", 4: "f", 8: "d"}
# What numpy.save writes for one string or number. numpy.load would evaluate any header,
# allocate whatever it claims, and raise SystemError for a letter that is none.
_NPY = re.compile(
    rb"\x93NUMPY\x01\0..\{'descr': '(?P<order>[<>|])(?P<kind>[USfiu])(?P<size>\d{1,3})', "
    rb"'fortran_order': False, 'shape': \(\), \} *\n(?P<data>.*)",
    re.DOTALL,
)


def read(tree: RawTree, *, name: str, source: AffectnetSource) -> Iterator[Candidate | Reject]:
    """Yield every row of the tables, or every annotated picture of the sets.

    A picture that no table names is a row where it lies in a folder that they refer to.
    AffectNet's automatically annotated part is not read.

    Raises:
        UserError: if there is neither form, or both.
    """
    assert source.format == "affectnet"
    tables = {member: split for table, split in _TABLES.items() if (member := tree.find(table))}
    sets = next((path for path in tree.members if path.lower().endswith(_LAYOUT.ending)), None)
    if tables and sets:
        both = [next(iter(tables)), sets]
        raise UserError(f"source {name}: {_FORMS}, and not both; found {both}")
    if not tables and not sets:
        raise tree.layout_error(name, _FORMS)
    if tables:
        yield from _read_tables(tree, tables, name=name)
        return
    for pair in read_pairs(tree, layout=_LAYOUT, name=name):
        yield pair if isinstance(pair, Reject) else _from_pair(tree, pair, name=name)


def _read_tables(
    tree: RawTree, tables: dict[str, Split], *, name: str
) -> Iterator[Candidate | Reject]:
    pictures = PathIndex(tree.members)
    rows = []
    for table, split in tables.items():
        for row in column_rows(tree, table, _USED, fixed_order=_COLUMNS):
            path = unicodedata.normalize("NFC", row.fields[0].replace("\\", "/")).strip("/")
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
    if pair.labels is None:
        assert pair.picture is not None
        return Reject(pair.picture, "label_missing", f"no {_LAYOUT.ending} file", pair.picture)
    number = _read_number(tree, pair.labels)
    if number is None:
        detail = "expected the .npy file of one number"
        return Reject(pair.labels, "row_malformed", detail, pair.picture)
    if str(number) not in CODES:
        return _without_class(pair.labels, str(number), pair.picture)
    if pair.picture is None:
        return Reject(pair.labels, "image_missing", pair.name)
    key = f"{name}/{pair.split}/{pair.name}"
    return Candidate(pair.labels, key, pair.picture, CODES[str(number)], pair.split, photo=key)


def _read_number(tree: RawTree, member: str) -> int | None:
    """Read the whole number, perhaps as text, of a .npy file; None if it holds anything else."""
    try:
        match = _NPY.fullmatch(tree.read(member))
    except UnreadableMemberError:
        return None
    if match is None:
        return None
    order: Literal["big", "little"] = "big" if match["order"] == b">" else "little"
    kind, data = match["kind"], match["data"]
    if len(data) != int(match["size"]) * (4 if kind == b"U" else 1):
        return None
    if kind in b"iu":
        return int.from_bytes(data, order, signed=kind == b"i")
    try:
        if kind == b"f":
            form = ("<" if order == "little" else ">") + _FLOATS[len(data)]
            return whole(str(struct.unpack(form, data)[0]))
        text = data.decode("ascii" if kind == b"S" else f"utf-32-{order[0]}e")
    except (ValueError, KeyError):
        return None
    return whole(text.rstrip("\0"))
