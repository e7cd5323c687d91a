import cv2
import numpy as np
import pytest
import torch

from stages.faces.model_input import equalize
from stages.loading.equalization import equalize_batch


@pytest.mark.parametrize("size", [32, 48, 61, 100])
@pytest.mark.parametrize("tiles", [1, 3, 8])
@pytest.mark.parametrize("clip_limit", [0.01, 2.0, 3.3, 40.0])
def test_pixels_are_those_of_opencv(size, tiles, clip_limit) -> None:
    images = _pictures(size)
    found = equalize_batch(torch.from_numpy(images), clip_limit=clip_limit, tiles=tiles)
    expected = [equalize(image, clip_limit=clip_limit, tiles=tiles) for image in images]
    _assert_same_pixels(found, np.stack(expected))


def test_a_grid_finer_than_the_picture_mirrors_it_again_and_again() -> None:
    images = _pictures(32)
    found = equalize_batch(torch.from_numpy(images), clip_limit=2.0, tiles=33)
    expected = [equalize(image, clip_limit=2.0, tiles=33) for image in images]
    _assert_same_pixels(found, np.stack(expected))


def test_every_colour_goes_to_luma_and_chroma_and_back_as_in_opencv(monkeypatch) -> None:
    monkeypatch.setattr("stages.loading.equalization._equalized", lambda luma, **_: luma)
    levels = np.arange(0, 256, 3, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 86, 86, 3)
    found = equalize_batch(torch.from_numpy(colours), clip_limit=2.0, tiles=8)
    flat = colours.reshape(-1, 86, 3)
    expected = cv2.cvtColor(cv2.cvtColor(flat, cv2.COLOR_RGB2YCrCb), cv2.COLOR_YCrCb2RGB)
    assert np.array_equal(found.numpy(), expected.reshape(colours.shape))


def test_a_face_does_not_depend_on_its_batch() -> None:
    images = torch.from_numpy(_pictures(48))
    together = equalize_batch(images, clip_limit=2.0, tiles=8)
    alone = [equalize_batch(image[None], clip_limit=2.0, tiles=8)[0] for image in images]
    assert torch.equal(together, torch.stack(alone))


def _pictures(size: int) -> np.ndarray:
    """Smooth, noisy, flat, black, white and half black pictures, uint8 (N, size, size, 3)."""
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    smooth = [cv2.blur(image, (5, 5)) for image in noise[:2]]
    flat = [np.full((size, size, 3), level, np.uint8) for level in (77, 0, 255)]
    half = np.zeros((size, size, 3), np.uint8)
    half[: size // 2] = 200
    return np.stack([*smooth, noise[2], *flat, half])


def _assert_same_pixels(found: torch.Tensor, expected: np.ndarray) -> None:
    """Equal but for single pixels of another rounding, which another OpenCV might bring."""
    differences = np.abs(found.numpy().astype(int) - expected)
    assert found.dtype == torch.uint8
    assert differences.max() <= 1
    assert differences.mean() < 1e-3
