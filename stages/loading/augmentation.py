"""Random crop, mirror and colour jitter of training faces.

First a `Variation` is drawn, by numbers that do not depend on the picture; then geometry turns a
decoded face into a square uint8 one, and colour works on that square. The two are apart because
only geometry needs the picture in its own size.
"""

from typing import NamedTuple

import cv2
import numpy as np

from stages.config import Augmentation
from stages.faces.decode import Image
from stages.faces.model_input import resize_square

# The crop's width over its height, each as a share of the picture's, lies within this factor of 1.
MAX_ASPECT = 1.15
# What evaluation uses: every picture as it is.
NO_AUGMENTATION = Augmentation(
    crop_scale=(1.0, 1.0), flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0
)
_LUMA = np.array([0.299, 0.587, 0.114])
_LUMA_OF_EACH, _SAME = np.tile(_LUMA, (3, 1)), np.eye(3)


class Variation(NamedTuple):
    """How one face is varied in one epoch; sizes and offsets are shares of the picture's sides."""

    width: float
    height: float
    left: float
    top: float
    mirrored: bool
    # Factors of brightness, contrast and saturation.
    colour: tuple[float, ...]


def draw_variation(augmentation: Augmentation, *, rng: np.random.Generator) -> Variation:
    """Draw a crop that lies inside the picture, a mirror image or not, and factors of colour."""
    area, aspect, x, y, mirror, *colour = rng.random(8).tolist()
    low, high = augmentation.crop_scale
    area = low + (high - low) * area
    # Neither side may exceed the picture: at area 1 only aspect 1 is left.
    widest = min(MAX_ASPECT, 1 / area)
    aspect = widest ** (2 * aspect - 1)
    width, height = min(1.0, (area * aspect) ** 0.5), min(1.0, (area / aspect) ** 0.5)
    strengths = augmentation.brightness, augmentation.contrast, augmentation.saturation
    return Variation(
        width=width,
        height=height,
        left=x * (1 - width),
        top=y * (1 - height),
        mirrored=mirror < augmentation.flip,
        colour=tuple(1 + s * (2 * share - 1) for s, share in zip(strengths, colour, strict=True)),
    )


def vary_geometry(image: Image, variation: Variation, *, out: Image) -> None:
    """Crop to whole pixels, stretch to `out` (S, S, 3), mirror there."""
    height, width = image.shape[:2]
    rows = _pixels(variation.top, share=variation.height, side=height)
    columns = _pixels(variation.left, share=variation.width, side=width)
    resize_square(image[rows, columns], size=len(out), out=out)
    if variation.mirrored:
        cv2.flip(out, 1, dst=out)


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


def _pixels(start: float, *, share: float, side: int) -> slice:
    """The whole pixels of a part of a side; at least one, and none beyond the side's end."""
    length = max(1, round(share * side))
    first = min(round(start * side), side - length)
    return slice(first, first + length)
