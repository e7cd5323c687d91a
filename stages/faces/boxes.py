"""Where a face lies in its photo, as a viewer shows it."""

from typing import NamedTuple

MAX_ANGLE = 45.0


class BoxPx(NamedTuple):
    """A face in its photo, px: left and top inclusive, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int


class BoxShare(NamedTuple):
    """A face in its photo, as shares of the photo's width and height."""

    left: float
    top: float
    right: float
    bottom: float
