"""The one crop: a face box in its photo -> a square picture of the face."""

import cv2
import numpy as np

from stages.preprocessing.decode import Image
from stages.preprocessing.errors import UnusableImageError

# left, top, right, bottom in px; left and top inclusive, right and bottom exclusive
BoxPx = tuple[int, int, int, int]


def crop_square(image: Image, *, box: BoxPx, margin: float) -> Image:
    """Cut the square around the box's centre, of side `max(w, h) * (1 + 2 * margin)`.

    What lies beyond the photo's edge is filled by repeating the edge.

    Raises:
        UnusableImageError: `box_empty`, or `box_outside` if the photo holds less than half of it.
    """
    visible_px(image, box=box)
    left, top, right, bottom = box
    side = max(1, round(max(right - left, bottom - top) * (1 + 2 * margin)))
    x, y = (left + right - side) // 2, (top + bottom - side) // 2
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
        UnusableImageError: as for `crop_square`.
    """
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        raise UnusableImageError("box_empty", f"box {box} has no area")
    height, width = image.shape[:2]
    visible_width = min(right, width) - max(left, 0)
    visible_height = min(bottom, height) - max(top, 0)
    visible = max(visible_width, 0) * max(visible_height, 0)
    if 2 * visible < (right - left) * (bottom - top):
        raise UnusableImageError("box_outside", f"box {box} in a photo of {width} x {height} px")
    shorter: int = min(visible_width, visible_height)
    return shorter
