"""Raw rows -> pictures to store, or why there is none; in any process."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import cast

import cv2
import numpy as np

from stages.faces.decode import BoxPx, Image, UnusableImageError, decode, encode_png, orientation
from stages.faces.fingerprint import fingerprint
from stages.intake.align import EyeDetector
from stages.intake.crop import crop_square, crop_upright, visible_part
from stages.sources.members import MemberReader, Place, UnreadableMemberError
from stages.sources.rows import Candidate, Fault, Reject

# A row, and where its picture lies; None where nothing is to be read.
PlacedRow = tuple[Candidate | Reject, Place | None]
# The encoded photo, the decoded one, and its EXIF orientation (1 where no box asks for it).
_Photo = tuple[bytes, Image, int]


@dataclass(frozen=True)
class Framing:
    """How faces are cut: margin, longest side, and the detector that finds the eyes, if any."""

    margin: float
    max_side_px: int
    detector: EyeDetector | None


@dataclass(frozen=True)
class StoredPicture:
    """A face's picture as stored; the first fields are columns of a shard.

    `crop` is `none` where the raw picture is the face, `box` for a cut along the axes, `aligned`
    for one turned until the eyes are level. `native_px` is the shorter side of what the photo shows
    of the face, before any scaling. `box_inside` is None without a box. `is_of_turned_photo` tells
    if there is a box and an EXIF orientation turns the photo.
    """

    image: bytes
    width: int
    height: int
    native_px: int
    sha256: str
    dhash: int
    thumbnail: bytes
    crop: str
    box_inside: bool | None
    is_of_turned_photo: bool


@dataclass(frozen=True)
class RefusedRow:
    """A reject, and its box in the photo as seen."""

    reject: Reject
    box: BoxPx | None = None
    is_of_turned_photo: bool = False


@dataclass(frozen=True)
class RowReader:
    """Makes pictures of rows; a photo is decoded once for all rows of a call that show it."""

    members: MemberReader
    framing: Framing

    def __call__(self, rows: Sequence[PlacedRow]) -> list[StoredPicture | RefusedRow]:
        """Read, crop and encode each row's picture, in their order; one photo at a time is held."""
        read_photo = lru_cache(maxsize=1)(self._read_photo)
        by_photo = sorted(range(len(rows)), key=lambda number: rows[number][0].member or "")
        results = {number: self._read(rows[number], read_photo) for number in by_photo}
        return [results[number] for number in range(len(rows))]

    def _read(
        self, placed: PlacedRow, read_photo: Callable[..., _Photo]
    ) -> StoredPicture | RefusedRow:
        row, place = placed
        if isinstance(row, Reject):
            return RefusedRow(row)
        box, is_turned = None, False
        try:
            encoded, photo, turn = read_photo(row.member, place, row.image, row.box is not None)
            if row.box is not None:
                is_turned = turn != 1
                height, width = photo.shape[:2]
                box = row.box.as_seen(orientation=turn, width=width, height=height)
            return frame(photo, encoded=encoded, box=box, is_turned=is_turned, framing=self.framing)
        except UnreadableMemberError as error:
            return RefusedRow(Reject(row.row, "image_unreadable", str(error)))
        except UnusableImageError as error:
            remark = f"; EXIF turns the photo, the row has {row.box}" if is_turned else ""
            detail = f"{row.member}: {error.detail}{remark}"
            reject = Reject(row.row, cast(Fault, error.reason), detail, row.picture)
            return RefusedRow(reject, box=box, is_of_turned_photo=is_turned)

    def _read_photo(
        self, member: str, place: Place | None, image: bytes | None, has_box: bool
    ) -> _Photo:
        if image is None:
            assert place is not None
            image = self.members.read(member, place)
        pixels = decode(image)
        return image, pixels, orientation(image, image=pixels) if has_box else 1


def frame(
    photo: Image, *, encoded: bytes, box: BoxPx | None, framing: Framing, is_turned: bool = False
) -> StoredPicture:
    """Crop if there is a box, shrink to `max_side_px`, and fingerprint what is stored.

    A picture that is neither cropped nor shrunk keeps its bytes, `encoded`. Any other becomes a
    PNG: it should lose nothing more, and a JPEG's bytes would hang on the encoder's version. It is
    not compressed: every epoch reads it.

    Raises:
        UnusableImageError: if there is no face to be had.
    """
    face, crop, inside = photo, "none", None
    native_px = min(photo.shape[:2])
    if box is not None:
        native_px, inside = visible_part(photo, box=box)
        angle = None if framing.detector is None else framing.detector.eye_angle(photo, box=box)
        if angle is None:
            face, crop = crop_square(photo, box=box, margin=framing.margin), "box"
        else:
            face = crop_upright(photo, box=box, margin=framing.margin, angle=angle)
            crop = "aligned"
    height, width = face.shape[:2]
    if (scale := framing.max_side_px / max(height, width)) < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        face = np.asarray(cv2.resize(face, size, interpolation=cv2.INTER_AREA), np.uint8)
    return StoredPicture(
        image=encoded if face is photo else encode_png(face, compressed=False),
        width=face.shape[1],
        height=face.shape[0],
        native_px=native_px,
        crop=crop,
        box_inside=inside,
        is_of_turned_photo=is_turned,
        **fingerprint(face)._asdict(),
    )


def batches(rows: Iterable[PlacedRow], *, at_least: int) -> Iterator[list[PlacedRow]]:
    """Group neighbouring rows into lists of `at_least` rows; rows of one photo stay together."""
    batch: list[PlacedRow] = []
    for _, same in groupby(rows, key=lambda placed: placed[0].member or placed[0].row):
        batch.extend(same)
        if len(batch) >= at_least:
            yield batch
            batch = []
    if batch:
        yield batch
