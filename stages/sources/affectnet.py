"""AffectNet with its own labels: `training.csv` and `validation.csv`, or .npy annotations."""

import re
import struct
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

from stages.config import AffectnetSource
from stages.runtime.errors import UserError
from stages.sources.columns import ColumnRow, column_rows
from stages.sources.face import Box, Candidate, Pixels, Reject
from stages.sources.labels import Split
from stages.sources.members import UnreadableMemberError
from stages.sources.numbers import code, is_gap, whole
from stages.sources.pairs import Layout, Pair, read_pairs
from stages.sources.tables import quoted
from stages.sources.tree import PICTURE_SUFFIXES, RawTree, suffix, without_jpg

CODES = {
    "0": "Neutral",
    "1": "Happy",
    "2": "Sad",
    "3": "Surprise",
    "4": "Fear",
    "5": "Disgust",
    "6": "Angry",
}
_NO_CLASSES = {"7": "contempt", "8": "none", "9": "uncertain", "10": "no face"}
_TABLES: dict[str, Split] = {"training.csv": "train", "validation.csv": "val"}
_COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
    "expression", "valence", "arousal",
)  # fmt: skip
_USED = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression",
)  # fmt: skip
# AffectNet does not say. What found faces at its time read them so: OpenCV before 3.1, dlib.
_PIXELS: Pixels = "stored"
_LAYOUT = Layout({"train_set": "train", "val_set": "val"}, labels="annotations", ending="_exp.npy")
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

    A picture that no table names is a row where it lies in a folder that they refer to, below the
    place where their pictures are found; AffectNet's automatically annotated part is not read.

    Raises:
        UserError: if there is neither form, or both.
    """
    assert source.format == "affectnet"
    tables = [(found, split) for table, split in _TABLES.items() if (found := tree.find(table))]
    sets = next((path for path in tree.members if path.lower().endswith(_LAYOUT.ending)), None)
    if bool(tables) == bool(sets):
        shown = [tables[0][0], sets] if tables else list(tree.members[:5])
        raise UserError(f"source {name}: {_FORMS}, and not both; found {shown}")
    if sets is None:
        yield from _read_tables(tree, tables, name=name)
        return
    for pair in read_pairs(tree, layout=_LAYOUT, name=name):
        yield pair if isinstance(pair, Reject) else _from_pair(tree, pair, name=name)


class _PicturesByPath:
    """Members by the end of their path, letter case aside; remembers what was asked for."""

    def __init__(self, members: Sequence[str]) -> None:
        self._members = members
        self._by_depth: dict[int, dict[str, list[str]]] = {}
        self._max_depth = max((member.count("/") + 1 for member in members), default=0)
        self._depth_of: dict[str, int] = {}
        self._places: set[str] = set()
        self._folders: set[str] = set()

    def find(self, path: str) -> str | None:
        """The member whose path ends with `path`: spelt exactly so, else letter case aside.

        Where letter case alone tells two members apart, only the exact spelling finds one.

        Raises:
            UserError: if there are several.
        """
        folder, _, _ = path.lower().rpartition("/")
        self._folders.add(folder)
        found = self._ending(path.lower())
        exact = [member for member in found if f"/{member}".endswith(f"/{path}")]
        if len(exact) > 1:
            raise UserError(f"{path}: expected one such picture, found {len(exact)}: {exact[:3]}")
        if not exact and len(found) != 1:
            return None
        member = (exact or found)[0]
        depth = path.count("/") + 1
        self._depth_of[member] = min(depth, self._depth_of.get(member, depth))
        self._places.add(_folder(member.lower(), depth=depth))
        return member

    def name(self, member: str) -> str:
        """What is one name for all spellings of a member: its own, as long as the shortest of them.

        No other member has it, for then that spelling would have meant two.
        """
        return "/".join(member.split("/")[-self._depth_of[member] :])

    def unnamed(self) -> Iterator[str]:
        """Pictures never found, in a folder asked for, below a place where others were found."""
        watched: dict[str, bool] = {}
        for member in self._members:
            folder = _folder(member.lower(), depth=1)
            if folder not in watched:
                watched[folder] = self._is_watched(folder)
            if not watched[folder] or member in self._depth_of:
                continue
            if suffix(member) in PICTURE_SUFFIXES:
                yield member

    def _ending(self, tail: str) -> list[str]:
        depth = tail.count("/") + 1
        if depth > self._max_depth:
            return []
        if depth not in self._by_depth:
            index = self._by_depth[depth] = {}
            for member in self._members:
                end = "/".join(member.lower().split("/")[-depth:])
                index.setdefault(end, []).append(member)
        return self._by_depth[depth].get(tail, [])

    def _is_watched(self, folder: str) -> bool:
        parts = folder.split("/") if folder else []
        return any(
            "/".join(parts[:n]) in self._places and "/".join(parts[n:]) in self._folders
            for n in range(len(parts) + 1)
        )


def _folder(path: str, *, depth: int) -> str:
    """A path without its last `depth` parts; empty for the top."""
    return "/".join(path.split("/")[:-depth])


def _read_tables(
    tree: RawTree, tables: list[tuple[str, Split]], *, name: str
) -> Iterator[Candidate | Reject]:
    pictures = _PicturesByPath(tree.members)
    rows = []
    for table, split in tables:
        for row in column_rows(tree, table, _USED, fixed_order=_COLUMNS):
            path = unicodedata.normalize("NFC", row.fields[0].replace("\\", "/")).strip("/")
            rows.append((row, split, path, pictures.find(path)))
    # Not before all are found is it known how each picture is spelt.
    for row, split, path, picture in rows:
        key = f"{name}/{without_jpg(pictures.name(picture))}" if picture else ""
        yield _from_row(row, path, picture, key=key, split=split)
    names = " or ".join(table for table, _ in tables)
    for picture in pictures.unnamed():
        yield Reject(picture, "label_missing", f"no row in {names}", picture)


def _from_row(
    row: ColumnRow, path: str, picture: str | None, *, key: str, split: Split
) -> Candidate | Reject:
    _, *box_fields, expression = row.fields
    if row.problem or not path:
        return Reject(row.row, "row_malformed", row.problem or "names no picture", picture)
    label = CODES.get(code(expression))
    if label is None:
        return _no_class(row.row, expression, picture)
    if picture is None:
        return Reject(row.row, "image_missing", quoted(path))
    if all(map(is_gap, box_fields)):
        return Reject(row.row, "box_missing", "no box", picture)
    box = _box(box_fields)
    if box is None:
        detail = f"expected x, y, width and height in px, got {quoted(', '.join(box_fields))}"
        return Reject(row.row, "row_malformed", detail, picture)
    return Candidate(row.row, key, picture, label, split, photo=key, box=box)


def _no_class(row: str, expression: str, picture: str | None) -> Reject:
    if meaning := _NO_CLASSES.get(code(expression)):
        return Reject(row, "not_a_class", meaning, picture)
    return Reject(row, "label_invalid", f"expected 0 to 10, got {quoted(expression)}", picture)


def _box(fields: list[str]) -> Box | None:
    numbers = [found for field in fields if (found := whole(field)) is not None]
    if len(numbers) != len(fields):
        return None
    x, y, width, height = numbers
    return Box(left=x, top=y, right=x + width, bottom=y + height, pixels=_PIXELS)


def _from_pair(tree: RawTree, pair: Pair, *, name: str) -> Candidate | Reject:
    if pair.labels is None:
        assert pair.picture is not None
        return Reject(pair.picture, "label_missing", f"no {_LAYOUT.ending} file", pair.picture)
    number = _number(tree, pair.labels)
    if number is None:
        detail = "expected the .npy file of one number"
        return Reject(pair.labels, "row_malformed", detail, pair.picture)
    if str(number) not in CODES:
        return _no_class(pair.labels, str(number), pair.picture)
    if pair.picture is None:
        return Reject(pair.labels, "image_missing", pair.name)
    key = f"{name}/{pair.split}/{pair.name}"
    return Candidate(pair.labels, key, pair.picture, CODES[str(number)], pair.split, photo=key)


def _number(tree: RawTree, member: str) -> int | None:
    """The whole number, perhaps as text, of a .npy file; None if it holds anything else."""
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
            (found,) = struct.unpack(("<" if order == "little" else ">") + _FLOATS[len(data)], data)
            return whole(str(found))
        text = data.decode("ascii" if kind == b"S" else f"utf-32-{order[0]}e")
    except (ValueError, KeyError):
        return None
    return whole(text.rstrip("\0"))
