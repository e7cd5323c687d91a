"""ExpW: photos with several faces each, listed with their boxes in `label.lst`."""

from collections.abc import Iterator, Sequence
from posixpath import basename

from stages.config import ExpwSource
from stages.runtime.errors import UserError
from stages.sources.face import Box, Candidate, Pixels, Reject
from stages.sources.labels import FER2013_CODES
from stages.sources.numbers import code, number, whole
from stages.sources.tables import quoted, text_rows
from stages.sources.tree import RawTree, without_jpg

_TABLE, _FOLDER = "label.lst", "origin"
_COLUMNS = "image face_id top left right bottom confidence label"
# ExpW does not say. What found faces at its time read them so: MATLAB, OpenCV before 3.1.
_PIXELS: Pixels = "stored"


def read(tree: RawTree, *, name: str, source: ExpwSource) -> Iterator[Candidate | Reject]:
    """Yield every line of label.lst; faces of `hq_confidence` and more are source `<name>_hq`.

    ExpW has more photos than it lists; these follow.

    Raises:
        UserError: if there is no list or no picture.
    """
    table = tree.find(_TABLE)
    pictures = tree.pictures_below(_FOLDER)
    if table is None or not len(pictures):
        raise UserError(
            f"source {name}: expected {_TABLE} and pictures below {_FOLDER}/, "
            f"found {list(tree.members[:5])}"
        )
    for row, text in text_rows(tree, table):
        file_name, *fields = text.rsplit(None, 7)
        picture = pictures.find(file_name)
        numbers = _numbers(fields)
        if numbers is None:
            detail = f"expected {_COLUMNS}, got {quoted(text)}"
            yield Reject(row, "row_malformed", detail, picture)
        elif picture is None:
            yield Reject(row, "image_missing", quoted(file_name))
        elif (label := FER2013_CODES.get(code(fields[6]))) is None:
            detail = f"expected 0 to 6, got {quoted(fields[6])}"
            yield Reject(row, "label_invalid", detail, picture)
        else:
            face_id, box, confidence = numbers
            quality = "hq" if confidence >= source.hq_confidence else "lq"
            photo = without_jpg(basename(picture))
            yield Candidate(
                row,
                f"{name}_{quality}/{photo}#{face_id}",
                picture,
                label,
                split=None,
                photo=f"{name}/{photo}",
                box=box,
                confidence=confidence,
            )
    for picture in pictures.unused():
        yield Reject(picture, "photo_unlisted", f"no line in {table}", picture)


def _numbers(fields: Sequence[str]) -> tuple[int, Box, float] | None:
    """face_id, box and confidence of `face_id top left right bottom confidence label`."""
    if len(fields) != 7:
        return None
    wholes, confidence = (
        [found for field in fields[:5] if (found := whole(field)) is not None],
        number(fields[5]),
    )
    if len(wholes) != 5 or confidence is None:
        return None
    face_id, top, left, right, bottom = wholes
    box = Box(left=left, top=top, right=right, bottom=bottom, pixels=_PIXELS)
    return face_id, box, confidence
