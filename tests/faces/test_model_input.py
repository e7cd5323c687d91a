import cv2
import numpy as np
import pytest
import torch
from shipped import shipped
from torchvision.transforms.v2.functional import normalize as torchvision_normalize

from stages.config import Clahe, Preprocess
from stages.faces.model_input import equalize, normalize, resize_square, to_model_input

IMAGE = np.random.default_rng(4).integers(0, 256, (50, 40, 3), np.uint8)
FACE = np.random.default_rng(3).normal(120, 12, (64, 64, 3)).clip(0, 255).astype(np.uint8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_normalize_against_torchvision():
    image = torch.from_numpy(IMAGE).permute(2, 0, 1).float() / 255
    expected = torchvision_normalize(image, list(MEAN), list(STD)).numpy()
    result = normalize(IMAGE, mean=MEAN, std=STD)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert np.abs(result - expected).max() < 1e-6


@pytest.mark.parametrize("size", [20, 40, 64])
def test_resize_stretches_the_whole_picture_and_shrinking_averages(size):
    halves = np.zeros((50, 40, 3), np.uint8)
    halves[25:] = 200
    result = resize_square(halves, size=size)
    assert result.shape == (size, size, 3)
    assert result[: size // 2 - 2].max() == 0
    assert result[size // 2 + 2 :].min() == 200
    checks = np.indices((2 * size, 2 * size)).sum(0)[:, :, None] % 2 * np.full(3, 200)
    assert set(np.unique(resize_square(checks.astype(np.uint8), size=size))) == {100}


def test_incident_X1_model_input_is_resize_then_clahe_then_normalise():
    block = Preprocess(clahe=Clahe(clip_limit=3.0, tiles=4), mean=MEAN, std=STD)
    resized = resize_square(IMAGE, size=32)
    equalized = equalize(resized, clip_limit=3.0, tiles=4)
    expected = normalize(equalized, mean=MEAN, std=STD)
    assert np.array_equal(to_model_input(IMAGE, size=32, preprocess=block), expected)
    plain = to_model_input(IMAGE, size=32, preprocess=shipped(Preprocess, mean=MEAN, std=STD))
    assert np.array_equal(plain, normalize(resized, mean=MEAN, std=STD))
    assert not np.array_equal(plain, expected)


def test_luma_is_equalised_as_opencv_does_and_chroma_and_the_input_are_kept():
    before, copy = cv2.cvtColor(FACE, cv2.COLOR_RGB2YCrCb), FACE.copy()
    luma = cv2.createCLAHE(2.0, (4, 4)).apply(np.ascontiguousarray(before[:, :, 0]))
    expected = cv2.cvtColor(np.dstack([luma, before[:, :, 1:]]), cv2.COLOR_YCrCb2RGB)
    assert np.array_equal(equalize(FACE, clip_limit=2.0, tiles=4), expected)
    assert np.array_equal(FACE, copy)
    assert expected.std() > 1.2 * FACE.std()
    grey = np.repeat(FACE[:, :, :1], 3, axis=2)
    assert np.ptp(equalize(grey, clip_limit=2.0, tiles=8).astype(int), axis=2).max() == 0
