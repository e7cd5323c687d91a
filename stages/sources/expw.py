"""ExpW: photos with several faces each, listed with their boxes in `label.lst`."""

import math
from collections.abc import Iterator
from pathlib import PurePosixPath

from stages.config import ExpwSource
from stages.runtime.errors import UserError
from stages.sources.face import Box, Candidate, Reject
from stages.sources.tables import text_rows
from stages.sources.tree import RawTree

CODES = {
    "0": "Angry",
    "1": "Disgust",
    "2": "Fear",
    "3": "Happy",
    "4": "Sad",
    "5": "Surprise",
    "6": "Neutral",
}
_TABLE, _FOLDER = "label.lst", "origin"
_COLUMNS = "image face_id top left right bottom confidence label"


def read(tree: RawTree, *, name: str, source: ExpwSource) -> Iterator[Candidate | Reject]:
    """Yield every line of label.lst; faces of `hq_confidence` and more are source `<name>_hq`.

    The list repeats faces: the first line of one stays, the others are `box_repeated`, by rule. Two
    faces of one photo and face_id with different boxes are a fault, `row_repeated`.

    Raises:
        UserError: if there is no list or no picture.
    """
    table = tree.find(_TABLE)
    pictures = tree.pictures_below(_FOLDER)
    if table is None or not len(pictures):
        raise UserError(f"source {name}: expected {_TABLE} and pictures below {_FOLDER}/")
    rows_by_box: dict[tuple[str, Box], str] = {}
    rows_by_key: dict[str, str] = {}
    for row, text in text_rows(tree, table):
        fields = text.rsplit(None, 7)
        picture = pictures.find(fields[0])
        numbers = _numbers(fields[1:])
        if numbers is None:
            yield Reject(row, "row_malformed", f"expected {_COLUMNS}, got {text!r}")
            continue
        face_id, box, confidence = numbers
        if picture is None:
            yield Reject(row, "image_missing", fields[0])
        elif fields[7] not in CODES:
            yield Reject(row, "label_invalid", f"expected 0 to 6, got {fields[7]!r}")
        elif (picture, box) in rows_by_box:
            yield Reject(row, "box_repeated", f"the face of {rows_by_box[picture, box]}")
        elif (key := f"{PurePosixPath(picture).stem}#{face_id}") in rows_by_key:
            yield Reject(row, "row_repeated", f"another box of {key} stands in {rows_by_key[key]}")
        else:
            rows_by_box[picture, box] = rows_by_key[key] = row
            quality = "hq" if confidence >= source.hq_confidence else "lq"
            yield Candidate(
                row,
                f"{name}_{quality}/{key}",
                picture,
                CODES[fields[7]],
                split=None,
                photo=f"{name}/{PurePosixPath(picture).stem}",
                box=box,
                confidence=confidence,
            )
    for picture in pictures.unused():
        yield Reject(picture, "label_missing", f"no line in {table}")


def _numbers(fields: list[str]) -> tuple[int, Box, float] | None:
    """face_id, box and confidence of `face_id top left right bottom confidence label`."""
    if len(fields) != 7:
        return None
    try:
        face_id, top, left, right, bottom = (int(field) for field in fields[:5])
        confidence = float(fields[5])
    except ValueError:
        return None
    if not math.isfinite(confidence):
        return None
    return face_id, Box(left=left, top=top, right=right, bottom=bottom), confidence
