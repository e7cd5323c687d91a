"""Raw rows -> pictures to store, or why there is none; in any process."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple, cast

from stages.faces.boxes import BoxPx, BoxShare
from stages.faces.decode import Image, decode, orientation
from stages.faces.errors import UnusableImageError
from stages.intake.crop import turned_box
from stages.intake.picture import Framing, Picture, frame
from stages.intake.rejects import Refused
from stages.sources.face import Box, Candidate, Fault, Reject, ShareBox
from stages.sources.members import MemberReader, Place, UnreadableMemberError


class PlacedRow(NamedTuple):
    """A row, and where its picture lies; None where nothing is to be read."""

    row: Candidate | Reject
    place: Place | None


class _Photo(NamedTuple):
    """`orientation` is that of EXIF, by which the image is turned; 1 where no box asks for it."""

    encoded: bytes
    image: Image
    orientation: int


_PhotoOf = Callable[[str, Place | None, bytes | None, bool], _Photo]


@dataclass(frozen=True)
class RowReader:
    """Makes pictures of rows; a photo is decoded once for all rows of a call that show it.

    It can be pickled.
    """

    members: MemberReader
    framing: Framing

    def __call__(self, rows: Sequence[PlacedRow]) -> list[Picture | Refused]:
        """What becomes of each row, in their order; one photo at a time is held."""
        photo_of = lru_cache(maxsize=1)(self._read)
        by_photo = sorted(range(len(rows)), key=lambda number: rows[number].row.member or "")
        found = {number: self._look_at(rows[number], photo_of) for number in by_photo}
        return [found[number] for number in range(len(rows))]

    def _look_at(self, placed: PlacedRow, photo_of: _PhotoOf) -> Picture | Refused:
        row = placed.row
        if isinstance(row, Reject):
            return Refused(row)
        box, is_turned, remark = None, False, ""
        try:
            photo = photo_of(row.member, placed.place, row.image, row.box is not None)
            if row.box is not None:
                box, is_turned = _box_as_seen(row.box, photo), photo.orientation != 1
                remark = f"; EXIF turns the photo, the row has {row.box}" if is_turned else ""
            picture = frame(photo.image, encoded=photo.encoded, box=box, framing=self.framing)
            return replace(picture, is_of_turned_photo=is_turned)
        except UnreadableMemberError as error:
            return Refused(Reject(row.row, "image_unreadable", str(error)))
        except UnusableImageError as error:
            detail = f"{row.member}: {error.detail}{remark}"
            reject = Reject(row.row, cast(Fault, error.reason), detail, row.picture)
            return Refused(reject, image=row.image, box=box, is_of_turned_photo=is_turned)

    def _read(self, member: str, place: Place | None, image: bytes | None, has_box: bool) -> _Photo:
        if image is None:
            assert place is not None
            image = self.members.read(member, place)
        pixels = decode(image)
        return _Photo(image, pixels, orientation(image, image=pixels) if has_box else 1)


def batches(rows: Iterable[PlacedRow], *, at_least: int) -> Iterator[list[PlacedRow]]:
    """Group neighbouring rows into lists of so many or more; rows of one photo stay together."""
    batch: list[PlacedRow] = []
    for _, same in groupby(rows, key=lambda placed: placed.row.member or placed.row.row):
        batch.extend(same)
        if len(batch) >= at_least:
            yield batch
            batch = []
    if batch:
        yield batch


def _box_as_seen(box: Box | ShareBox, photo: _Photo) -> BoxPx | BoxShare:
    """The box in the turned photo, whichever pixels it counts."""
    turn = photo.orientation if box.pixels == "stored" else 1
    edges = (box.left, box.top, box.right, box.bottom)
    if isinstance(box, ShareBox):
        return turned_box(BoxShare(*edges), orientation=turn, width=1, height=1)
    height, width = photo.image.shape[:2]
    if turn >= 5:
        height, width = width, height
    return turned_box(BoxPx(*map(int, edges)), orientation=turn, width=width, height=height)
