import cv2
import numpy as np

from stages.faces.model_input import equalize

IMAGE = np.random.default_rng(3).normal(120, 12, (64, 64, 3)).clip(0, 255).astype(np.uint8)


def test_luma_is_equalised_as_opencv_does_and_chroma_is_kept():
    before = cv2.cvtColor(IMAGE, cv2.COLOR_RGB2YCrCb)
    luma = cv2.createCLAHE(2.0, (4, 4)).apply(np.ascontiguousarray(before[:, :, 0]))
    expected = cv2.cvtColor(np.dstack([luma, before[:, :, 1:]]), cv2.COLOR_YCrCb2RGB)
    assert np.array_equal(equalize(IMAGE, clip_limit=2.0, tiles=4), expected)


def test_contrast_rises_and_the_input_stays():
    copy = IMAGE.copy()
    assert equalize(IMAGE, clip_limit=4.0, tiles=2).std() > 1.3 * IMAGE.std()
    assert np.array_equal(IMAGE, copy)


def test_grey_stays_grey():
    grey = np.repeat(IMAGE[:, :, :1], 3, axis=2)
    result = equalize(grey, clip_limit=2.0, tiles=8).astype(int)
    assert np.ptp(result, axis=2).max() == 0
