"""The one crop: a face box in its photo -> a square picture of the face."""

import math
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from stages.faces.boxes import BoxPx, BoxShare
from stages.faces.decode import MAX_PIXELS, Image
from stages.faces.errors import UnusableImageError

AnyBox = TypeVar("AnyBox", BoxPx, BoxShare)


class Square(NamedTuple):
    """A square in or over the edges of a photo, px."""

    left: int
    top: int
    side: int


def in_pixels(box: BoxShare, *, width: int, height: int) -> BoxPx:
    """The box in a photo of that size, each edge at the nearest pixel.

    Raises:
        UnusableImageError: `box_outside` if a share is no finite number.
    """
    edges = (box.left * width, box.top * height, box.right * width, box.bottom * height)
    if not all(math.isfinite(edge) for edge in edges):
        raise UnusableImageError("box_outside", f"box {tuple(box)} is not finite")
    return BoxPx(*(round(edge) for edge in edges))


def turned_box(box: AnyBox, *, orientation: int, width: int, height: int) -> AnyBox:
    """A box of stored pixels as it lies in the picture that an EXIF orientation makes of them.

    `width` and `height` are those of the stored picture, 1 for a box in shares. An empty box stays
    one.
    """
    left, top, right, bottom = box
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    # From 5 on rows become columns.
    edges = (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)
    return type(box)(*edges)


def crop_square(image: Image, *, box: BoxPx, margin: float) -> Image:
    """Cut the square around the box's centre, of side `max(w, h) * (1 + 2 * margin)`.

    What lies beyond the photo's edge is filled by repeating the edge.

    Raises:
        UnusableImageError: `box_empty`; `box_outside` if the photo holds less than half of it;
            `image_too_large` if the square would be.
    """
    x, y, side = square_to_cut(image, box=box, margin=margin)
    height, width = image.shape[:2]
    inside = image[max(y, 0) : min(y + side, height), max(x, 0) : min(x + side, width)]
    square = cv2.copyMakeBorder(
        inside,
        top=max(-y, 0),
        bottom=max(y + side - height, 0),
        left=max(-x, 0),
        right=max(x + side - width, 0),
        borderType=cv2.BORDER_REPLICATE,
    )
    return np.asarray(square, np.uint8)


def visible_px(image: Image, *, box: BoxPx) -> int:
    """The shorter side of the part of a box that lies in its photo.

    Raises:
        UnusableImageError: `box_empty` or `box_outside`, as for `crop_square`.
    """
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        raise UnusableImageError("box_empty", f"box {tuple(box)} has no area")
    height, width = image.shape[:2]
    visible_width = min(right, width) - max(left, 0)
    visible_height = min(bottom, height) - max(top, 0)
    visible = max(visible_width, 0) * max(visible_height, 0)
    if 2 * visible < (right - left) * (bottom - top):
        detail = f"box {tuple(box)} in a photo of {width} x {height} px"
        raise UnusableImageError("box_outside", detail)
    shorter: int = min(visible_width, visible_height)
    return shorter


def lies_inside(image: Image, *, box: BoxPx) -> bool:
    """Whether the photo holds the whole box."""
    height, width = image.shape[:2]
    left, top, right, bottom = box
    return left >= 0 and top >= 0 and right <= width and bottom <= height


def square_to_cut(image: Image, *, box: BoxPx, margin: float) -> Square:
    """The square that `crop_square` cuts; raises as it does."""
    visible_px(image, box=box)
    square = square_around(box, margin=margin)
    if square.side**2 > MAX_PIXELS:
        detail = f"box {tuple(box)} with its margin makes {square.side} x {square.side} px"
        raise UnusableImageError("image_too_large", detail)
    return square


def square_around(box: BoxPx, *, margin: float) -> Square:
    """The square around the box's centre, of side `max(w, h) * (1 + 2 * margin)`."""
    left, top, right, bottom = box
    side = max(1, round(max(right - left, bottom - top) * (1 + 2 * margin)))
    return Square((left + right - side) // 2, (top + bottom - side) // 2, side)
