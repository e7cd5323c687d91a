"""Decoded photo, with or without a face box -> the picture to store, and what is known of it."""

from dataclasses import dataclass

import cv2
import numpy as np

from stages.faces.boxes import BoxPx, BoxShare
from stages.faces.decode import Image, encode_png
from stages.faces.fingerprint import fingerprint
from stages.intake.align import EyeDetector, crop_upright
from stages.intake.crop import crop_square, in_pixels, lies_inside, visible_px


@dataclass(frozen=True)
class Picture:
    """A face's picture as stored, with its size, detail and fingerprints.

    `crop` is `none` where the raw picture is the face, `box` for a cut along the axes, `aligned`
    for one turned until the eyes are level. `box_inside` is None without a box, and False where
    part of it lies outside the photo. `native_px` is the shorter side of what the photo shows of
    the face, before any scaling. `is_of_turned_photo` is True where there is a box, and an EXIF
    orientation turns the photo.
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
    is_of_turned_photo: bool = False


@dataclass(frozen=True)
class Framing:
    """How faces are cut: margin, longest side, and who finds the eyes, if anybody."""

    margin: float
    max_side_px: int
    detector: EyeDetector | None


def frame(
    photo: Image, *, encoded: bytes, box: BoxPx | BoxShare | None, framing: Framing
) -> Picture:
    """Crop if there is a box, shrink to `max_side_px`, and fingerprint what is stored.

    `encoded` is the photo as it was before decoding. A picture that is neither cropped nor shrunk
    keeps these bytes. Any other becomes a PNG: it is scaled at most once and should lose nothing
    more, and a JPEG's bytes would hang on the encoder's version. It is not compressed: every epoch
    reads it.

    Raises:
        UnusableImageError: if there is no face to be had.
    """
    face = _uncropped(photo) if box is None else _cropped(photo, box=box, framing=framing)
    image = _shrink(face.image, max_side_px=framing.max_side_px)
    sha256, dhash, thumbnail = fingerprint(image)
    return Picture(
        image=encoded if image is photo else encode_png(image, compressed=False),
        width=image.shape[1],
        height=image.shape[0],
        native_px=face.native_px,
        sha256=sha256,
        dhash=dhash,
        thumbnail=thumbnail,
        crop=face.crop,
        box_inside=face.box_inside,
    )


@dataclass(frozen=True)
class _Face:
    image: Image
    native_px: int
    crop: str
    box_inside: bool | None


def _uncropped(photo: Image) -> _Face:
    return _Face(photo, native_px=min(photo.shape[:2]), crop="none", box_inside=None)


def _cropped(photo: Image, *, box: BoxPx | BoxShare, framing: Framing) -> _Face:
    height, width = photo.shape[:2]
    if isinstance(box, BoxShare):
        box = in_pixels(box, width=width, height=height)
    native_px, box_inside = visible_px(photo, box=box), lies_inside(photo, box=box)
    angle = None if framing.detector is None else framing.detector.eye_angle(photo, box=box)
    if angle is None:
        image = crop_square(photo, box=box, margin=framing.margin)
        return _Face(image, native_px, "box", box_inside)
    image = crop_upright(photo, box=box, margin=framing.margin, angle=angle)
    return _Face(image, native_px, "aligned", box_inside)


def _shrink(image: Image, *, max_side_px: int) -> Image:
    """The same picture, or a smaller one whose longer side is `max_side_px`."""
    height, width = image.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
