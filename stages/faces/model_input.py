"""A decoded face -> model input: the one way for training, export and use."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.config import Preprocess
from stages.faces.decode import Image


def to_model_input(image: Image, *, size: int, preprocess: Preprocess) -> NDArray[np.float32]:
    """Resize, equalise if asked, normalise: RGB uint8 (H, W, 3) to float32 (3, size, size)."""
    resized = resize_square(image, size=size)
    if preprocess.clahe is not None:
        clahe = preprocess.clahe
        resized = equalize(resized, clip_limit=clahe.clip_limit, tiles=clahe.tiles)
    return normalize(resized, mean=preprocess.mean, std=preprocess.std)


def resize_square(image: Image, *, size: int, out: Image | None = None) -> Image:
    """Stretch a picture (H, W, 3) to (size, size, 3), in `out` if given; nothing is cut off."""
    shrinks = min(image.shape[:2]) > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), dst=out, interpolation=method), np.uint8)


def equalize(image: Image, *, clip_limit: float, tiles: int) -> Image:
    """Equalise the Y of YCrCb of an RGB picture (H, W, 3) on a grid of `tiles` x `tiles` (CLAHE).

    YCrCb is a linear transform of RGB, so a GPU can do the same with a 3x3 matrix.
    """
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    equalizer = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(tiles, tiles))
    cv2.insertChannel(equalizer.apply(cv2.extractChannel(planes, 0)), planes, 0)
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB, dst=planes), np.uint8)


def normalize(image: Image, *, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Apply `(image / 255 - mean) / std` to each channel: uint8 (H, W, 3) to float32 (3, H, W)."""
    scale = 1 / (255 * np.asarray(std, np.float32))
    shift = np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    scaled = image.astype(np.float32) * scale.astype(np.float32) - shift
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))
