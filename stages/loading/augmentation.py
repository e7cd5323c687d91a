"""Random variation of training faces: geometry, quality, one hole, colour.

First a `Variation` is drawn, by numbers that do not depend on the picture; then geometry turns a
decoded face into a square uint8 one, and quality and colour work on that square. Colour is apart
because a GPU can do it for a whole batch.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from stages.config import Augmentation
from stages.faces.decode import Image
from stages.faces.model_input import resize_square

# The crop's width over its height, each as a share of the picture's, lies within this factor of 1.
MAX_ASPECT = 1.15
# Low resolution shrinks a face to this share of its side at least.
MIN_RESOLUTION = 1 / 3
# The widest blur as a share of the side: 1.5 px of 64.
MAX_SIGMA = 1.5 / 64
JPEG_QUALITIES = 30, 95
# Random erasing (https://arxiv.org/abs/1708.04896): the hole's share of the area, and its width
# over its height at most; that is drawn on a logarithmic scale, as 1 / 3.3 to 3.3.
ERASED_AREA = 0.02, 0.2
ERASED_ASPECT = 3.3
# What evaluation uses: every picture as it is.
NO_AUGMENTATION = Augmentation.model_validate(
    dict.fromkeys(Augmentation.model_fields, 0.0) | {"crop_scale": (1.0, 1.0)}
)
_LUMA = np.array([0.299, 0.587, 0.114])
_LUMA_OF_EACH, _SAME = np.tile(_LUMA, (3, 1)), np.eye(3)
_LEVELS = np.arange(256) / 255


class Variation(NamedTuple):
    """How one face is varied in one epoch; the defaults leave it as it is.

    Sizes, offsets, `sigma` and `hole` are shares of the picture's sides.
    """

    width: float
    height: float
    left: float
    top: float
    mirrored: bool
    # Factors of brightness, contrast and saturation; a grey face has a saturation of 0.
    colour: tuple[float, ...]
    # Counter-clockwise, as seen.
    rotation_deg: float = 0.0
    # To the right and down.
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    resolution: float = 1.0
    sigma: float = 0.0
    jpeg_quality: int | None = None
    gamma: float = 1.0
    # Width, height, left, top.
    hole: tuple[float, float, float, float] | None = None


def draw_variation(augmentation: Augmentation, *, rng: np.random.Generator) -> Variation:
    """Draw how a face is varied: 25 numbers, whatever is on, so that no key changes another's."""
    numbers = rng.random(25).tolist()
    area, aspect, x, y, mirror, *colour = numbers[:8]
    turn, right, down, smaller, bent, grey = numbers[8:14]
    lowered, resolution, blurred, sigma, recoded, quality, erased, *hole = numbers[14:]
    low, high = augmentation.crop_scale
    area = low + (high - low) * area
    # Neither side may exceed the picture: at area 1 only aspect 1 is left.
    width, height = _sides(area, aspect, max_aspect=min(MAX_ASPECT, 1 / area))
    strengths = augmentation.brightness, augmentation.contrast, augmentation.saturation
    factors = [1 + s * _signed(share) for s, share in zip(strengths, colour, strict=True)]
    if grey < augmentation.grey:
        factors[2] = 0.0
    is_lowered, is_recoded = lowered < augmentation.low_resolution, recoded < augmentation.jpeg
    return Variation(
        width=width,
        height=height,
        left=x * (1 - width),
        top=y * (1 - height),
        mirrored=mirror < augmentation.flip,
        colour=tuple(factors),
        rotation_deg=augmentation.rotation_deg * _signed(turn),
        shift=(augmentation.shift * _signed(right), augmentation.shift * _signed(down)),
        zoom=1 - augmentation.zoom_out * smaller,
        resolution=_between(MIN_RESOLUTION, 1.0, resolution if is_lowered else 1.0),
        sigma=MAX_SIGMA * sigma if blurred < augmentation.blur else 0.0,
        jpeg_quality=round(_between(*JPEG_QUALITIES, quality)) if is_recoded else None,
        gamma=math.exp(augmentation.gamma * _signed(bent)),
        hole=_hole(*hole) if erased < augmentation.erasing else None,
    )


def vary_geometry(image: Image, variation: Variation, *, out: Image) -> None:
    """Crop to whole pixels, stretch to `out` (S, S, 3), mirror there; or warp it if it is moved."""
    if variation.rotation_deg or any(variation.shift) or variation.zoom != 1:
        _warp(image, variation, out=out)
        return
    height, width = image.shape[:2]
    rows = _pixels(variation.top, share=variation.height, side=height)
    columns = _pixels(variation.left, share=variation.width, side=width)
    resize_square(image[rows, columns], size=len(out), out=out)
    if variation.mirrored:
        cv2.flip(out, 1, dst=out)


def vary_quality(image: Image, variation: Variation) -> None:
    """Lower the resolution, blur, recode as JPEG, bend the tones, cut the hole: (S, S, 3) in place.

    The hole has the picture's mean colour.
    """
    side = len(image)
    if (small := max(1, round(variation.resolution * side))) < side:
        shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        cv2.resize(shrunk, (side, side), dst=image, interpolation=cv2.INTER_LINEAR)
    if variation.sigma:
        cv2.GaussianBlur(image, (0, 0), variation.sigma * side, dst=image)
    if (quality := variation.jpeg_quality) is not None:
        data = simplejpeg.encode_jpeg(image, quality=quality, colorsubsampling="420")
        simplejpeg.decode_jpeg(data, buffer=image)
    if variation.gamma != 1:
        cv2.LUT(image, np.rint(255 * _LEVELS**variation.gamma).astype(np.uint8), dst=image)
    if variation.hole is not None:
        width, height, left, top = variation.hole
        hole = _pixels(top, share=height, side=side), _pixels(left, share=width, side=side)
        image[hole] = np.rint(cv2.mean(image)[:3])


def vary_colour(image: Image, variation: Variation) -> Image:
    """Brightness, then contrast about the mean luma, then saturation, clipped once at the end.

    All three are linear in the pixel, so they are one 3x4 matrix.
    """
    brightness, contrast, saturation = variation.colour
    mean_luma = float(_LUMA @ cv2.mean(image)[:3])
    affine = np.empty((3, 4))
    matrix = saturation * _SAME + (1 - saturation) * _LUMA_OF_EACH
    affine[:, :3] = contrast * brightness * matrix
    affine[:, 3] = (1 - contrast) * brightness * mean_luma
    return np.asarray(cv2.transform(image, affine), np.uint8)


def _warp(image: Image, variation: Variation, *, out: Image) -> None:
    """Crop, stretch, mirror, zoom, rotate and shift at once.

    Beside the crop stands what the picture has there, and its border repeated beyond.
    """
    side, scale = len(out), len(out) * variation.zoom
    height, width = image.shape[:2]
    # A warp reads a few pixels for each of its own: of a finer picture it would skip some, and make
    # it sharper than evaluation does. One of the same scale is blurred less by cubic interpolation.
    method = cv2.INTER_LINEAR
    finer = np.array([width * variation.width, height * variation.height]) / scale
    if (finer > 1).any():
        sides = np.rint((width, height) / finer.clip(min=1)).clip(min=1)
        width, height = sides.astype(int).tolist()
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        method = cv2.INTER_CUBIC
    # From a pixel of `out` back to one of the picture; a pixel's centre is 0.5 beyond its start.
    stretch = np.array([width * variation.width, height * variation.height]) / scale
    if variation.mirrored:
        stretch[0] *= -1
    angle = np.deg2rad(variation.rotation_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = stretch[:, None] * turn
    middle = np.array([variation.left + variation.width / 2, variation.top + variation.height / 2])
    start = middle * (width, height) - 0.5
    shown_at = (0.5 + np.array(variation.shift)) * side - 0.5
    cv2.warpAffine(
        image,
        np.column_stack([linear, start - linear @ shown_at]),
        (side, side),
        dst=out,
        flags=method | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _hole(area: float, aspect: float, x: float, y: float) -> tuple[float, float, float, float]:
    width, height = _sides(_between(*ERASED_AREA, area), aspect, max_aspect=ERASED_ASPECT)
    return width, height, x * (1 - width), y * (1 - height)


def _sides(area: float, aspect: float, *, max_aspect: float) -> tuple[float, float]:
    """Width and height of a part by its area and by where in 0 ... 1 its aspect was drawn."""
    aspect = max_aspect ** (2 * aspect - 1)
    return min(1.0, (area * aspect) ** 0.5), min(1.0, (area / aspect) ** 0.5)


def _signed(share: float) -> float:
    return 2 * share - 1


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _pixels(start: float, *, share: float, side: int) -> slice:
    """The whole pixels of a part of a side; at least one, and none beyond the side's end."""
    length = max(1, round(share * side))
    first = min(round(start * side), side - length)
    return slice(first, first + length)
