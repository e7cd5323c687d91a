"""A face box in its photo -> a square picture of the face, along the axes or turned upright."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.faces.decode import MAX_PIXELS, BoxPx, Image, UnusableImageError


def crop_square(image: Image, *, box: BoxPx, margin: float) -> Image:
    """Cut the square around the box's centre, of side `max(w, h) * (1 + 2 * margin)`.

    What lies beyond the photo's edge is filled by repeating the edge.

    Raises:
        UnusableImageError: `box_empty`; `box_outside` if the photo holds less than half of it;
            `image_too_large` if the square would be.
    """
    x, y, side = _square_to_cut(image, box=box, margin=margin)
    height, width = image.shape[:2]
    inside = image[max(y, 0) : y + side, max(x, 0) : x + side]
    square = cv2.copyMakeBorder(
        inside,
        top=max(-y, 0),
        bottom=max(y + side - height, 0),
        left=max(-x, 0),
        right=max(x + side - width, 0),
        borderType=cv2.BORDER_REPLICATE,
    )
    return np.asarray(square, np.uint8)


def crop_upright(image: Image, *, box: BoxPx, margin: float, angle: float) -> Image:
    """Cut the square of `crop_square`, turned about its centre so that a line at `angle` is level.

    `angle` is in degrees, as of `EyeDetector.eye_angle`. What lies beyond the photo's edge is
    filled by repeating the edge. Raises as `crop_square`.
    """
    x, y, side = _square_to_cut(image, box=box, margin=margin)
    # Only what the turned square can reach: OpenCV's warps take no photo above 32,767 px.
    reach = side // 4 + 2
    left, top = max(x - reach, 0), max(y - reach, 0)
    region = image[top : y + side + reach, left : x + side + reach]
    centre = (side - 1) / 2
    turn = rotation(angle, centre=(centre, centre))
    turn[:, 2] += (x - left, y - top)
    return warp(region, turn, size=(side, side))


def visible_part(image: Image, *, box: BoxPx) -> tuple[int, bool]:
    """Measure the shorter side, px, of the part of a box that its photo holds; is it all of it?

    Raises:
        UnusableImageError: `box_empty` or `box_outside`, as for `crop_square`.
    """
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        raise UnusableImageError("box_empty", f"box {tuple(box)} has no area")
    height, width = image.shape[:2]
    sides = min(right, width) - max(left, 0), min(bottom, height) - max(top, 0)
    area, visible = (right - left) * (bottom - top), max(sides[0], 0) * max(sides[1], 0)
    if 2 * visible < area:
        detail = f"box {tuple(box)} in a photo of {width} x {height} px"
        raise UnusableImageError("box_outside", detail)
    return min(sides), visible == area


def square_around(box: BoxPx, *, margin: float) -> tuple[int, int, int]:
    """Find left, top and side of the square around the box's centre, px, in the photo or not."""
    left, top, right, bottom = box
    side = max(1, round(max(right - left, bottom - top) * (1 + 2 * margin)))
    return (left + right - side) // 2, (top + bottom - side) // 2, side


def rotation(angle: float, *, centre: tuple[float, float]) -> NDArray[np.float64]:
    """Build the map (2, 3) from places where a line is level to where it falls by `angle`."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, np.array(centre) - turn @ centre])


def warp(image: Image, source: NDArray[np.float64], *, size: tuple[int, int]) -> Image:
    """Fill a picture of `size` from the places (2, 3) in `image` to which `source` maps it."""
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(image, source, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8)


def _square_to_cut(image: Image, *, box: BoxPx, margin: float) -> tuple[int, int, int]:
    visible_part(image, box=box)
    x, y, side = square_around(box, margin=margin)
    if side**2 > MAX_PIXELS:
        detail = f"box {tuple(box)} with its margin makes {side} x {side} px"
        raise UnusableImageError("image_too_large", detail)
    return x, y, side
