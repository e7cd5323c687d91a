"""Synthetic faces: thumbnails as unlike one another as real ones, and pictures drawn from them."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import idctn

from stages.faces.fingerprint import THUMBNAIL_SIDE

Pictures = NDArray[np.uint8]

# A random field whose 2-D DCT components fall like (1 + u^2 + v^2)^-DECAY, with a part that all
# faces have in common. Chosen so that unrelated thumbnails correlate as those of 4,000 FERPlus
# pictures do: mean .08 and standard deviation .24 there, .08 and .25 here; .22 % and .15 % at 0.7.
DECAY, COMMON_SHARE = 0.7, 0.28
_GREY, _CONTRAST, _NOISE = 128.0, 52.0, 3.0
_EXACT_SHARE, _NEAR_SHARE = 0.05, 0.02
# Takes a copy to a correlation of about .98.
_COPY_NOISE = 10
_CHUNK = 8192
_SKIN = np.array([1.0, 0.85, 0.75])


def draw_thumbnails(number: int, *, seed: int = 0) -> Pictures:
    """Unrelated grey thumbnails (N, 576)."""
    rng = np.random.default_rng(seed)
    common = _fields(1, rng)
    common /= common.std()
    thumbnails = np.empty((number, THUMBNAIL_SIDE**2), np.uint8)
    for start in range(0, number, _CHUNK):
        part = thumbnails[start : start + _CHUNK]
        fields = np.sqrt(1 - COMMON_SHARE**2) * _fields(len(part), rng) + COMMON_SHARE * common
        contrast = _CONTRAST * rng.lognormal(sigma=0.25, size=(len(part), 1, 1))
        grey = _GREY + contrast * fields + rng.normal(scale=_NOISE, size=fields.shape)
        part[:] = np.clip(grey, 0, 255).reshape(len(part), -1)
    return thumbnails


def plant_copies(thumbnails: Pictures, *, seed: int = 0) -> NDArray[np.int64]:
    """Make 5 % of the thumbnails exact and 2 % near copies of others, half of these mirrored.

    Returns:
        The position of each one's original, (N,): its own unless it is a copy.
    """
    rng = np.random.default_rng(seed)
    number = len(thumbnails)
    shuffled = rng.permutation(number)
    num_exact, num_near = int(number * _EXACT_SHARE), int(number * _NEAR_SHARE)
    copies, originals = np.split(shuffled, [num_exact + num_near])
    origin = np.arange(number)
    origin[copies] = rng.choice(originals, len(copies))
    thumbnails[copies] = thumbnails[origin[copies]]
    for count, position in enumerate(copies[num_exact:]):
        thumbnails[position] = _near_copy(thumbnails[position], rng, mirrored=count % 2 == 1)
    return origin


def draw_picture(thumbnail: Pictures, *, width: int, height: int, noise: Pictures) -> Pictures:
    """A smooth RGB picture (H, W, 3) of a thumbnail (576,) under some of the noise."""
    small = thumbnail.reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    grey = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    coloured = grey[:, :, None] * _SKIN + noise[:height, :width]
    return np.asarray(np.clip(coloured, 0, 255), np.uint8)


def draw_noise(*, width: int, height: int, seed: int = 0) -> Pictures:
    """Grain (H, W, 3) of 0 to 15 grey levels."""
    return np.random.default_rng(seed).integers(0, 16, (height, width, 3), dtype=np.uint8)


def encode_jpeg(image: Pictures, *, quality: int = 90) -> bytes:
    """Encode a grey (H, W) or RGB (H, W, 3) picture."""
    bgr = image if image.ndim == 2 else image[:, :, ::-1]
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done  # noqa: S101 - states an invariant
    return bytes(data)


def _fields(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random fields (N, 24, 24) of mean 0 and, on average, variance 1."""
    squares = np.arange(THUMBNAIL_SIDE) ** 2
    spread = (1.0 + squares[:, None] + squares[None, :]) ** -DECAY
    spread[0, 0] = 0
    spread *= THUMBNAIL_SIDE / np.sqrt((spread**2).sum())
    components = rng.normal(size=(number, THUMBNAIL_SIDE, THUMBNAIL_SIDE)) * spread
    return np.asarray(idctn(components, axes=(1, 2), norm="ortho"))


def _near_copy(thumbnail: Pictures, rng: np.random.Generator, *, mirrored: bool) -> Pictures:
    square = thumbnail.reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE)[:, :: -1 if mirrored else 1]
    noise = rng.integers(-_COPY_NOISE, _COPY_NOISE + 1, square.shape)
    return np.asarray(np.clip(square + noise, 0, 255), np.uint8).ravel()
