"""FERPlus: ten crowd votes a picture, as generated folders or as the csv pair."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import PurePosixPath

import cv2
import numpy as np

from stages.config import FerplusSource
from stages.runtime.errors import UserError
from stages.sources.face import Candidate, Reject, Split
from stages.sources.labels import canonical
from stages.sources.tables import csv_rows
from stages.sources.tree import RawTree
from stages.sources.votes import VOTE_COLUMNS, class_votes, winner

_FOLDERS: dict[str, Split] = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
_USAGES: dict[str, Split] = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_SIDE_PX = 48
_WHOLE = f"(0, 0, {_SIDE_PX}, {_SIDE_PX})"
_FORMS = (
    f"expected the folders {', '.join(_FOLDERS)} with pictures and label.csv, "
    "or fer2013.csv (or icml_face_data.csv) with fer2013new.csv"
)


@dataclass(frozen=True)
class _Row:
    """A row of votes and its picture; `name` says where it stands."""

    name: str
    id: str
    member: str
    split: Split
    counts: tuple[str, ...]
    image: bytes | None = None


def read(tree: RawTree, *, name: str, source: FerplusSource) -> Iterator[Candidate | Reject]:
    """Yield every row of the generated folders if there are pictures, else of the csv pair.

    Raises:
        UserError: if there is neither.
    """
    votes = tree.find("fer2013new.csv")
    pixels = tree.find("fer2013.csv") or tree.find("icml_face_data.csv")
    folders = [folder for folder in _FOLDERS if len(tree.pictures_below(folder))]
    for folder in folders:
        yield from _read_folder(tree, folder, name=name, source=source)
    if not folders and votes and pixels:
        yield from _read_pair(tree, pixels, votes, name=name, source=source)
    elif not folders:
        raise UserError(f"source {name}: {_FORMS}; found {list(tree.members[:5])}")


def _read_folder(
    tree: RawTree, folder: str, *, name: str, source: FerplusSource
) -> Iterator[Candidate | Reject]:
    table = tree.find(f"{folder}/label.csv")
    if table is None:
        raise UserError(f"source {name}: no {folder}/label.csv beside its pictures")
    pictures = tree.pictures_below(folder)
    seen: dict[str, str] = {}
    for row, fields in csv_rows(tree, table):
        picture = pictures.find(fields[0])
        if len(fields) != 2 + len(VOTE_COLUMNS):
            detail = f"expected {2 + len(VOTE_COLUMNS)} columns, got {len(fields)}"
            yield Reject(row, "row_malformed", detail)
        elif fields[1] != _WHOLE:
            # Another box would be one of another picture: these are cropped already.
            yield Reject(row, "row_malformed", f"expected the box {_WHOLE}, got {fields[1]!r}")
        elif picture is None:
            yield Reject(row, "image_missing", f"{folder}/{fields[0]}")
        elif picture in seen:
            yield Reject(row, "row_repeated", f"{fields[0]} stands in {seen[picture]}")
        else:
            seen[picture] = row
            key = f"{name}/{PurePosixPath(picture).stem}"
            face = _Row(row, key, picture, _FOLDERS[folder], tuple(fields[2:]))
            yield _candidate(face, source=source)
    for picture in pictures.unused():
        yield Reject(picture, "label_missing", f"no row in {table}")


def _read_pair(
    tree: RawTree, pixels: str, votes: str, *, name: str, source: FerplusSource
) -> Iterator[Candidate | Reject]:
    """The n-th row of both tables is one picture; its FERPlus name is `fer` and n.

    173 rows have no name (nobody saw a face): they keep the n-th name and their votes decide.
    """
    pixel_rows = _table(tree, pixels, ("usage", "pixels"))
    vote_rows = _table(tree, votes, ("usage", "image name", *(c.lower() for c in VOTE_COLUMNS)))
    for number, (pixel, vote) in enumerate(zip_longest(pixel_rows, vote_rows)):
        if pixel is None or vote is None:
            raise UserError(f"{pixels}, {votes}: expected as many rows, one ends after {number}")
        pixel_row, (usage, text) = pixel
        row, (same, image_name, *counts) = vote
        if usage != same or usage not in _USAGES:
            raise UserError(
                f"{row}: expected one Usage of {list(_USAGES)} in both tables, "
                f"got {same!r} and, in {pixel_row}, {usage!r}"
            )
        image = _picture(text)
        if image is None:
            yield Reject(pixel_row, "image_unreadable", "expected 48 x 48 grey values")
            continue
        key = f"{name}/{PurePosixPath(image_name).stem or f'fer{number:07d}'}"
        face = _Row(row, key, pixel_row, _USAGES[usage], tuple(counts), image)
        yield _candidate(face, source=source)


def _candidate(row: _Row, *, source: FerplusSource) -> Candidate | Reject:
    """Decide by the votes. `label_rule` is for train; val and test always go by majority."""
    if not all(text.isascii() and text.isdigit() for text in row.counts):
        return Reject(row.name, "row_malformed", f"expected ten whole numbers, got {row.counts}")
    counts = [int(text) for text in row.counts]
    column = winner(counts, rule=source.label_rule if row.split == "train" else "majority")
    if column is None:
        return Reject(row.name, "no_majority", _in_words(counts))
    label = canonical(column)
    if label is None:
        return Reject(row.name, "not_a_class", column)
    votes = class_votes(counts)
    return Candidate(
        row.name, row.id, row.member, label, row.split, photo=row.id, votes=votes, image=row.image
    )


def _in_words(counts: list[int]) -> str:
    votes = zip(VOTE_COLUMNS, counts, strict=True)
    return ", ".join(f"{name} {count}" for name, count in votes if count)


def _table(tree: RawTree, member: str, columns: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield (row name, values of `columns`) of a CSV with a header (spaces and case aside)."""
    rows = csv_rows(tree, member)
    header = [field.lower() for field in next(rows, ("", []))[1]]
    if missing := [column for column in columns if column not in header]:
        raise UserError(f"{member}: expected the columns {list(columns)}, missing {missing}")
    places = [header.index(column) for column in columns]
    for row, fields in rows:
        if len(fields) != len(header):
            raise UserError(f"{row}: expected {len(header)} columns, got {len(fields)}")
        yield row, [fields[place] for place in places]


def _picture(text: str) -> bytes | None:
    """Pixel values in words as a PNG; None if they are not the 48 x 48 grey values expected."""
    words = text.split()
    if len(words) != _SIDE_PX**2 or not all(word.isascii() and word.isdigit() for word in words):
        return None
    values = np.array(words, dtype=np.int64)
    if values.max() > 255:
        return None
    done, data = cv2.imencode(".png", values.astype(np.uint8).reshape(_SIDE_PX, _SIDE_PX))
    assert done
    return bytes(data)
