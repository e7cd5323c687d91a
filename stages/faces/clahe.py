"""Contrast-limited adaptive histogram equalisation (CLAHE) of the luma channel."""

import cv2
import numpy as np

from stages.faces.decode import Image


def equalize(image: Image, *, clip_limit: float, tiles: int) -> Image:
    """Equalise the Y of YCrCb of an RGB picture (H, W, 3) on a grid of `tiles` x `tiles`.

    YCrCb is a linear transform of RGB, so a GPU can do the same with a 3x3 matrix.
    """
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    equalizer = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(tiles, tiles))
    cv2.insertChannel(equalizer.apply(cv2.extractChannel(planes, 0)), planes, 0)
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB, dst=planes), np.uint8)
