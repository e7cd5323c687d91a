"""Whole pictures: one face, or a photo of several; the background, light, noise and sharpness.

Pictures are RGB uint8 (H, W, 3). Integers or single IEEE operations only, so that every machine
gets the same pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.faces.decode import BoxPx
from tools.sample.face import draw_face, face_box
from tools.sample.moods import Mood, blend
from tools.sample.pen import Color, Image, Pen, Pose, ellipse
from tools.sample.person import draw_identity, shade

PHOTO_PX = (240, 320)
_PHOTO_FACTOR = 3
_JPEG_QUALITY = 82


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
    picture = reduce(canvas, factor=framing.factor)
    return _photograph(picture, max_blur=framing.max_blur, max_noise=framing.max_noise, rng=rng)


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
    return _photograph(picture, max_blur=1, max_noise=6, rng=rng), boxes


def draw_background(height: int, width: int, *, rng: np.random.Generator) -> Image:
    """A wall, a fade, stripes or lights out of focus."""
    first, second = (_quiet_color(rng) for _ in range(2))
    kind = int(rng.integers(4))
    down = np.linspace(0, 1, height)[:, None, None] if kind else np.zeros((height, 1, 1))
    fade = np.array(first) + down * (np.array(second) - np.array(first))
    canvas = np.broadcast_to(fade, (height, width, 3)).astype(np.uint8, order="C")
    if kind == 2:
        step = int(rng.integers(width // 12, width // 5))
        for left in range(int(rng.integers(step)), width, step):
            canvas[:, left : left + step // 3] = shade(second, 0.92)
    if kind == 3:
        for _ in range(7):
            radius = float(rng.uniform(0.06, 0.16)) * width
            x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
            points = np.rint(ellipse(x, y, radius, radius)).astype(np.int32)
            cv2.fillPoly(canvas, [points], shade(first, float(rng.uniform(0.85, 1.25))))
    return canvas


def reduce(canvas: Image, *, factor: int) -> Image:
    """The canvas `factor` times smaller: each pixel is the rounded mean of a block."""
    height, width = canvas.shape[0] // factor, canvas.shape[1] // factor
    blocks = canvas.reshape(height, factor, width, factor, 3).astype(np.uint32)
    means = (blocks.sum(axis=(1, 3)) + factor**2 // 2) // factor**2
    return np.asarray(means, np.uint8)


def soften(image: Image, *, passes: int) -> Image:
    """Blur with the 3x3 binomial kernel, `passes` times."""
    for _ in range(passes):
        edged = np.pad(image.astype(np.uint16), ((1, 1), (1, 1), (0, 0)), mode="edge")
        rows = edged[:-2] + 2 * edged[1:-1] + edged[2:]
        image = ((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:] + 8) // 16).astype(np.uint8)
    return image


def to_grey(image: Image) -> Image:
    """Brightness of an RGB picture, (H, W)."""
    red, green, blue = (image[..., channel].astype(np.uint32) for channel in range(3))
    return ((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(np.uint8)


def encode_png(grey: Image, *, level: int = 9) -> bytes:
    """A grey picture (H, W) as PNG; another level gives other bytes of the same pixels."""
    return bytes(cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, level])[1])


def encode_jpeg(image: Image) -> bytes:
    """An RGB picture as JPEG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return bytes(cv2.imencode(".jpg", image[..., ::-1], options)[1])


def _photograph(
    image: Image, *, max_blur: int, max_noise: float, rng: np.random.Generator
) -> Image:
    """Light, blur and noise drawn at random."""
    slope = float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.25, 0.25))
    exposure, warmth = float(rng.uniform(0.7, 1.05)), float(rng.uniform(-0.08, 0.1))
    height, width = image.shape[:2]
    across = np.linspace(-0.5, 0.5, width)[None, :, None]
    down = np.linspace(-0.5, 0.5, height)[:, None, None]
    # Light from one side: the slope is the change of brightness over width and height.
    gain = exposure * (1 + slope[0] * across + slope[1] * down)
    lit = _bytes(image * gain * np.array([1 + warmth, 1.0, 1 - warmth]))
    soft = soften(lit, passes=int(rng.integers(0, max_blur + 1)))
    # Triangular noise, the same in all channels.
    strength = float(rng.uniform(0, max_noise))
    noise = rng.integers(0, 128, (height, width, 1)) - rng.integers(0, 128, (height, width, 1))
    return _bytes(soft + noise * (strength / 127))


def _draw_person(canvas: Image, mood: Mood, *, pose: Pose, rng: np.random.Generator) -> None:
    expression = blend(mood, rng=rng)
    draw_face(Pen(canvas, pose), draw_identity(rng), expression=expression)


def _turn(most: float, rng: np.random.Generator) -> tuple[float, float, float]:
    yaw, pitch, roll = (most * float(rng.uniform(-1, 1)) for _ in range(3))
    return yaw, pitch, roll


def _quiet_color(rng: np.random.Generator) -> Color:
    base = int(rng.integers(60, 215))
    red, green, blue = (int(base + step) for step in rng.integers(-35, 36, 3))
    return shade((red, green, blue), 1.0)


def _bytes(values: NDArray[np.float64]) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
