import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from shipped import shipped

from stages.config import Augmentation
from stages.faces.model_input import resize_square
from stages.loading.augmentation import (
    MAX_ASPECT,
    NO_AUGMENTATION,
    Variation,
    draw_variation,
    vary_colour,
    vary_geometry,
)

PLAIN = Variation(1.0, 1.0, 0.0, 0.0, False, 1.0, 1.0, 1.0)
seeds = st.integers(0, 2**32)


def _picture(height: int = 40, width: int = 48, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.blur(noise, (3, 3))


@given(seeds, st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted))
def test_a_crop_lies_inside_and_factors_within_their_strength(seed, crop_scale) -> None:
    strengths = {"brightness": 0.1, "contrast": 0.2, "saturation": 0.3}
    augmentation = shipped(Augmentation, crop_scale=tuple(crop_scale), **strengths)
    variation = draw_variation(augmentation, rng=np.random.default_rng(seed))
    area, aspect = variation.width * variation.height, variation.width / variation.height
    assert crop_scale[0] - 1e-9 <= area <= crop_scale[1] + 1e-9
    assert 1 / MAX_ASPECT - 1e-9 <= aspect <= MAX_ASPECT + 1e-9
    assert 0 <= variation.left <= variation.left + variation.width <= 1 + 1e-9
    assert 0 <= variation.top <= variation.top + variation.height <= 1 + 1e-9
    for name, strength in strengths.items():
        assert abs(getattr(variation, name) - 1) <= strength


@given(seeds)
def test_no_augmentation_varies_nothing(seed) -> None:
    variation = draw_variation(NO_AUGMENTATION, rng=np.random.default_rng(seed))
    assert variation == PLAIN


def test_variations_use_their_whole_range_and_mirror_as_often_as_asked() -> None:
    rng, drawn = np.random.default_rng(0), {}
    for share in (0.0, 0.25, 1.0):
        augmentation = shipped(Augmentation, flip=share)
        drawn[share] = [draw_variation(augmentation, rng=rng) for _ in range(500)]
    for name in ("left", "top", "brightness", "contrast", "saturation"):
        values = [getattr(variation, name) for variation in drawn[0.25]]
        assert max(values) - min(values) > 0.1, name
    mirrored = {share: sum(v.mirrored for v in drawn[share]) for share in drawn}
    assert (mirrored[0.0], mirrored[1.0]) == (0, 500)
    assert 75 <= mirrored[0.25] <= 175


def test_geometry_is_crop_then_resize_then_mirror() -> None:
    size = 40
    image = _picture()
    variation = PLAIN._replace(width=0.5, height=0.75, left=0.25, top=0.1, mirrored=True)
    expected = resize_square(image[4:34, 12:36], size=size)[:, ::-1]
    varied = np.empty((size, size, 3), np.uint8)
    vary_geometry(image, variation, out=varied)
    assert np.array_equal(varied, expected)


@given(st.integers(1, 40), st.integers(1, 40), seeds)
def test_geometry_takes_pictures_of_any_size(height, width, seed) -> None:
    variation = draw_variation(
        shipped(Augmentation, crop_scale=(0.01, 1.0)), rng=np.random.default_rng(seed)
    )
    vary_geometry(_picture(height, width), variation, out=np.empty((32, 32, 3), np.uint8))


def test_plain_colour_changes_no_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(vary_colour(image, PLAIN), image)


@given(st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.integers(0, 5))
def test_colour_is_brightness_contrast_saturation_in_turn(b, c, s, seed) -> None:
    image = _picture(seed=seed)
    luma = np.array([0.299, 0.587, 0.114])
    bright = image * b
    mean_luma = (bright @ luma).mean()
    contrasted = c * bright + (1 - c) * mean_luma
    expected = s * contrasted + (1 - s) * (contrasted @ luma)[..., None]
    varied = vary_colour(image, PLAIN._replace(brightness=b, contrast=c, saturation=s))
    assert np.abs(varied - expected.clip(0, 255)).max() <= 1
