"""Where a face lies: the box that a dataset states -> the box in the photo as a viewer shows it."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal, NamedTuple

from stages.faces.decode import UnusableImageError

MAX_ANGLE = 45.0

# Which pixels a box counts: as the file stores them, or turned by its EXIF orientation, as seen.
Pixels = Literal["stored", "turned"]


class BoxPx(NamedTuple):
    """A face in its photo as seen, px: left and top inclusive, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Box:
    """A face in its photo as a dataset states it: whole px, or shares of width and height."""

    left: float
    top: float
    right: float
    bottom: float
    _: KW_ONLY
    unit: Literal["px", "share"]
    pixels: Pixels

    def as_seen(self, *, orientation: int, width: int, height: int) -> BoxPx:
        """Turn the box by the photo's EXIF orientation; shares are rounded to the nearest pixel.

        An empty box stays empty. `width` and `height` are those of the photo as seen.

        Raises:
            UnusableImageError: `box_outside` if a share is no finite number.
        """
        turn = orientation if self.pixels == "stored" else 1
        # From 5 on, rows become columns.
        is_transposed = turn >= 5
        stored_width, stored_height = (height, width) if is_transposed else (width, height)
        if self.unit == "share":
            stored_width = stored_height = 1
        left, top, right, bottom = self.left, self.top, self.right, self.bottom
        if turn in (2, 3, 7, 8):
            left, right = stored_width - right, stored_width - left
        if turn in (3, 4, 6, 7):
            top, bottom = stored_height - bottom, stored_height - top
        edges = (top, left, bottom, right) if is_transposed else (left, top, right, bottom)
        if self.unit == "share":
            scaled = [edge * side for edge, side in zip(edges, (width, height) * 2, strict=True)]
            if not all(map(math.isfinite, scaled)):
                raise UnusableImageError("box_outside", f"box {edges} is not finite")
            edges = (scaled[0], scaled[1], scaled[2], scaled[3])
        return BoxPx(*map(round, edges))
