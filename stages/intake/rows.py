"""Raw rows -> pictures to store, or why there is none; in any process."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple, cast

from stages.intake.rejects import Refused
from stages.preprocessing.crop import BoxPx, BoxShare
from stages.preprocessing.decode import Image, decode
from stages.preprocessing.errors import UnusableImageError
from stages.preprocessing.picture import Framing, Picture, frame
from stages.sources.face import Box, Candidate, Fault, Reject, ShareBox
from stages.sources.members import MemberReader, Place, UnreadableMemberError


class PlacedRow(NamedTuple):
    """A row, and where its picture lies; None where nothing is to be read."""

    row: Candidate | Reject
    place: Place | None


class _Photo(NamedTuple):
    encoded: bytes
    image: Image


_PhotoOf = Callable[[str, Place | None, bytes | None], _Photo]


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
        box = _box(row.box)
        try:
            encoded, image = photo_of(row.member, placed.place, row.image)
            return frame(image, encoded=encoded, box=box, framing=self.framing)
        except UnreadableMemberError as error:
            return Refused(Reject(row.row, "image_unreadable", str(error)))
        except UnusableImageError as error:
            detail = f"{row.member}: {error.detail}"
            reject = Reject(row.row, cast(Fault, error.reason), detail, row.picture)
            return Refused(reject, image=row.image, box=box)

    def _read(self, member: str, place: Place | None, image: bytes | None) -> _Photo:
        if image is None:
            assert place is not None
            image = self.members.read(member, place)
        return _Photo(image, decode(image))


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


def _box(box: Box | ShareBox | None) -> BoxPx | BoxShare | None:
    match box:
        case None:
            return None
        case Box():
            return BoxPx(box.left, box.top, box.right, box.bottom)
        case ShareBox():
            return BoxShare(box.left, box.top, box.right, box.bottom)
