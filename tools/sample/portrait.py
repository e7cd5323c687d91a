"""A whole picture of one face, and a photo of several.

In: moods, sizes, a random generator. Out: an RGB picture, and for a photo the boxes of its faces.
"""

from dataclasses import dataclass

import numpy as np

from stages.faces.decode import BoxPx
from tools.sample.crowd import Mood
from tools.sample.expressions import blend
from tools.sample.face import draw_face, face_box
from tools.sample.identity import draw_identity
from tools.sample.pen import Image, Pen, Pose
from tools.sample.scene import draw_background, photograph, reduce

PHOTO_PX = (240, 320)
_PHOTO_FACTOR = 3


@dataclass(frozen=True)
class PictureStyle:
    """How a dataset shows faces. `span` is the picture's side in face units, from and to."""

    side_px: int
    factor: int
    span: tuple[float, float]
    turn: float
    max_blur: int
    max_noise: float


def draw_portrait(mood: Mood, *, framing: PictureStyle, rng: np.random.Generator) -> Image:
    """One face that fills the picture, (side, side, 3)."""
    side = framing.side_px * framing.factor
    unit = side / float(rng.uniform(*framing.span))
    x, y = (side / 2 + unit * float(rng.uniform(-0.08, 0.08)) for _ in range(2))
    canvas = draw_background(side, side, rng=rng)
    pose = Pose(x, y + 0.05 * unit, unit, *_turn(framing.turn, rng))
    _draw_person(canvas, mood, pose=pose, rng=rng)
    return photograph(
        reduce(canvas, factor=framing.factor),
        max_blur=framing.max_blur,
        max_noise=framing.max_noise,
        rng=rng,
    )


def draw_photo(moods: list[Mood], *, rng: np.random.Generator) -> tuple[Image, list[BoxPx]]:
    """A photo with faces side by side, some near and some far, and a box for each."""
    height, width = (side * _PHOTO_FACTOR for side in PHOTO_PX)
    canvas = draw_background(height, width, rng=rng)
    slot = width / len(moods)
    poses = []
    for place in range(len(moods)):
        largest = min(slot / 2.15, height / 2.7)
        unit = largest * float(rng.uniform(0.35, 1.0) if rng.random() < 0.35 else 0.92)
        x = (place + 0.5) * slot + (slot / 2 - 1.05 * unit) * float(rng.uniform(-1, 1))
        y = float(rng.uniform(1.3 * unit, height - 1.25 * unit))
        poses.append(Pose(x, y, unit, *_turn(0.7, rng)))
    # From the top down, since a body reaches to the lower edge and must cover no face.
    for pose, mood in sorted(zip(poses, moods, strict=True), key=lambda pair: pair[0].y):
        _draw_person(canvas, mood, pose=pose, rng=rng)
    picture = reduce(canvas, factor=_PHOTO_FACTOR)
    boxes = [BoxPx(*(edge // _PHOTO_FACTOR for edge in face_box(pose))) for pose in poses]
    return photograph(picture, max_blur=1, max_noise=6, rng=rng), boxes


def _draw_person(canvas: Image, mood: Mood, *, pose: Pose, rng: np.random.Generator) -> None:
    expression = blend(mood.main, mood.other, share=mood.share, intensity=mood.intensity, rng=rng)
    draw_face(Pen(canvas, pose), draw_identity(rng), expression=expression)


def _turn(most: float, rng: np.random.Generator) -> tuple[float, float, float]:
    yaw, pitch, roll = (most * float(rng.uniform(-1, 1)) for _ in range(3))
    return yaw, pitch, roll
