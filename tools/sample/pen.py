"""Smooth shapes, given in face units, onto a large canvas as seen in one pose.

In: points (N, 2) as x to the right and y down; the face's centre is (0, 0), its chin about (0, 1).
Out: filled polygons on an RGB canvas. Only plain arithmetic and integer rasterisation are used (no
anti-aliasing, no blending; `scene.reduce` smooths later), so that every machine draws the same.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Image = NDArray[np.uint8]
Color = tuple[int, int, int]

_SUBPIXEL_BITS = 4
_STEPS = 8
_ANGLES = np.linspace(0, 2 * np.pi, 40, endpoint=False)
# Rounded, since the last bit of a sine differs between machines.
_CIRCLE = np.round(np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1), 9)


@dataclass(frozen=True)
class Pose:
    """Where a face is on the canvas (px), how large, and how it is turned (-1 to 1 each)."""

    x: float
    y: float
    unit_px: float
    yaw: float = 0
    pitch: float = 0
    roll: float = 0


@dataclass(frozen=True)
class Pen:
    """A canvas (H, W, 3), drawn upon in place, and the pose in which faces appear on it."""

    canvas: Image
    pose: Pose

    def fill(self, outline: Points, color: Color) -> None:
        """Fill a closed outline."""
        fixed = np.rint(self._seen(outline) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(self.canvas, [fixed], color, cv2.LINE_8, _SUBPIXEL_BITS)

    def stroke(self, line: Points, color: Color, *, width: float, taper: float = 0.3) -> None:
        """Draw along a line with a brush that thins to `taper` of its width at both ends."""
        middle = np.linspace(-1, 1, len(line)) ** 2
        half = width / 2 * (1 - (1 - taper) * middle)[:, None]
        along = np.gradient(line, axis=0)
        length = np.sqrt(along[:, 0] ** 2 + along[:, 1] ** 2)[:, None]
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(length, 1e-9)
        self.fill(np.concatenate([line + half * normal, (line - half * normal)[::-1]]), color)

    def _seen(self, points: Points) -> Points:
        """Face units to canvas px: what stands out of the face moves further as the head turns."""
        x, y, pose = points[:, 0], points[:, 1], self.pose
        depth = np.maximum(0.15, 1 - 0.6 * (x * x + y * y))
        x, y = x + 0.24 * pose.yaw * depth, y + 0.16 * pose.pitch * depth
        half = 0.12 * pose.roll  # the tangent of half the angle
        cos, sin = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
        seen = np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)
        return np.asarray(seen * pose.unit_px + np.array([pose.x, pose.y]), np.float64)


def ellipse(x: float, y: float, width: float, height: float) -> Points:
    """The outline of an ellipse with the given half axes."""
    return np.asarray(_CIRCLE * np.array([width, height]) + np.array([x, y]), np.float64)


def curve(*through: tuple[float, float]) -> Points:
    """A smooth line through the given points (Catmull-Rom spline)."""
    points = np.array([through[0], *through, through[-1]], dtype=np.float64)
    return np.concatenate([*_segments(points), points[-1:]])


def loop(*through: tuple[float, float]) -> Points:
    """A smooth closed outline through the given points."""
    points = np.array([through[-1], *through, *through[:2]], dtype=np.float64)
    return np.concatenate(_segments(points))


def mirrored(points: Points, side: int) -> Points:
    """The points as they are for side 1, on the other half of the face for side -1."""
    return np.asarray(points * np.array([side, 1.0]), np.float64)


def _segments(points: Points) -> list[Points]:
    t = (np.arange(_STEPS) / _STEPS)[:, None]
    segments = []
    for a, b, c, d in zip(points, points[1:], points[2:], points[3:], strict=False):
        cubic = -a + 3 * b - 3 * c + d
        square = 2 * a - 5 * b + 4 * c - d
        segments.append(0.5 * (2 * b + (c - a) * t + square * t * t + cubic * t * t * t))
    return segments
