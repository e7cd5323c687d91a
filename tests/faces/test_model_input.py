import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import normalize as torchvision_normalize

from stages.config import Clahe, Preprocess
from stages.faces.model_input import equalize, normalize, resize_square, to_model_input

IMAGE = np.random.default_rng(4).integers(0, 256, (50, 40, 3), np.uint8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_normalize_against_torchvision():
    image = torch.from_numpy(IMAGE).permute(2, 0, 1).float() / 255
    expected = torchvision_normalize(image, list(MEAN), list(STD)).numpy()
    result = normalize(IMAGE, mean=MEAN, std=STD)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert np.abs(result - expected).max() < 1e-6


@pytest.mark.parametrize("size", [20, 40, 64])
def test_resize_stretches_the_whole_picture(size):
    halves = np.zeros((50, 40, 3), np.uint8)
    halves[25:] = 200
    result = resize_square(halves, size=size)
    assert result.shape == (size, size, 3)
    assert result[: size // 2 - 2].max() == 0
    assert result[size // 2 + 2 :].min() == 200


def test_shrinking_averages():
    checks = np.indices((40, 40)).sum(0)[:, :, None] % 2 * np.full(3, 200)
    assert set(np.unique(resize_square(checks.astype(np.uint8), size=20))) == {100}


def test_incident_X1_model_input_is_resize_then_clahe_then_normalise():
    block = Preprocess(clahe=Clahe(clip_limit=3.0, tiles=4), mean=MEAN, std=STD)
    resized = resize_square(IMAGE, size=32)
    equalized = equalize(resized, clip_limit=3.0, tiles=4)
    expected = normalize(equalized, mean=MEAN, std=STD)
    assert np.array_equal(to_model_input(IMAGE, size=32, preprocess=block), expected)
    plain = to_model_input(IMAGE, size=32, preprocess=Preprocess(mean=MEAN, std=STD))
    assert np.array_equal(plain, normalize(resized, mean=MEAN, std=STD))
    assert not np.array_equal(plain, expected)
