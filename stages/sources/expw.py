"""ExpW: photos with several faces each, listed with their boxes in `label.lst`."""

from collections.abc import Iterator
from posixpath import basename

from stages.config import ExpwSource
from stages.faces.decode import Box, Pixels
from stages.sources.pictures import PictureIndex, without_jpg
from stages.sources.rows import FER2013_CODES, Candidate, Reject
from stages.sources.tables import code, number, quoted, text_rows, whole
from stages.sources.tree import RawTree

_TABLE, _FOLDER = "label.lst", "origin"
_COLUMNS = "image face_id top left right bottom confidence label"
# ExpW does not say. What found faces at its time read them so: MATLAB, OpenCV before 3.1.
_PIXELS: Pixels = "stored"


def read(tree: RawTree, *, name: str, source: ExpwSource) -> Iterator[Candidate | Reject]:
    """Yield every line of label.lst; faces of `hq_confidence` and more are source `<name>_hq`.

    ExpW has more photos than it lists; these follow.
    """
    table, photos = tree.find(_TABLE), tree.pictures_below(_FOLDER)
    if table is None or not photos:
        raise tree.layout_error(name, f"expected {_TABLE} and pictures below {_FOLDER}/")
    pictures = PictureIndex(photos)
    for row, text in text_rows(tree, table):
        file_name, *fields = text.rsplit(None, 7)
        picture = pictures.find(file_name)
        wholes = [value for field in fields[:5] if (value := whole(field)) is not None]
        confidence = number(fields[5]) if len(fields) == 7 else None
        if len(wholes) != 5 or confidence is None:
            detail = f"expected {_COLUMNS}, got {quoted(text)}"
            yield Reject(row, "row_malformed", detail, picture)
        elif picture is None:
            yield Reject(row, "image_missing", quoted(file_name))
        elif (label := FER2013_CODES.get(code(fields[6]))) is None:
            detail = f"expected 0 to 6, got {quoted(fields[6])}"
            yield Reject(row, "label_invalid", detail, picture)
        else:
            face_id, top, left, right, bottom = wholes
            quality = "hq" if confidence >= source.hq_confidence else "lq"
            photo = without_jpg(basename(picture))
            key, photo_key = f"{name}_{quality}/{photo}#{face_id}", f"{name}/{photo}"
            box = Box(left, top, right, bottom, unit="px", pixels=_PIXELS)
            yield Candidate(
                row, key, picture, label, None, photo_key, box=box, confidence=confidence
            )
    for picture in pictures.unused():
        yield Reject(picture, "photo_unlisted", f"no line in {table}", picture)
