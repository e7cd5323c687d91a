import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from shipped import shipped

from stages.config import Augmentation
from stages.faces.model_input import resize_square
from stages.loading.augmentation import (
    MAX_ASPECT,
    Variation,
    draw_variation,
    vary_colour,
    vary_geometry,
)

PLAIN = Variation(1.0, 1.0, 0.0, 0.0, False, (1.0, 1.0, 1.0))
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
    assert (np.abs(np.array(variation.colour) - 1) <= list(strengths.values())).all()


def test_variations_use_their_whole_range_and_mirror_as_often_as_asked() -> None:
    augmentation, rng = shipped(Augmentation, flip=0.25), np.random.default_rng(0)
    drawn = [draw_variation(augmentation, rng=rng) for _ in range(500)]
    values = np.array([(each.left, each.top, *each.colour) for each in drawn])
    assert (np.ptp(values, axis=0) > 0.1).all()
    assert 75 <= sum(each.mirrored for each in drawn) <= 175


def test_geometry_is_crop_then_resize_then_mirror() -> None:
    image, varied = _picture(), np.empty((40, 40, 3), np.uint8)
    variation = PLAIN._replace(width=0.5, height=0.75, left=0.25, top=0.1, mirrored=True)
    vary_geometry(image, variation, out=varied)
    assert np.array_equal(varied, resize_square(image[4:34, 12:36], size=40)[:, ::-1])


@given(st.integers(1, 40), st.integers(1, 40), seeds)
def test_geometry_takes_pictures_of_any_size(height, width, seed) -> None:
    augmentation = shipped(Augmentation, crop_scale=(0.01, 1.0))
    variation = draw_variation(augmentation, rng=np.random.default_rng(seed))
    vary_geometry(_picture(height, width), variation, out=np.empty((32, 32, 3), np.uint8))


@given(st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.integers(0, 5))
def test_colour_is_brightness_contrast_saturation_in_turn(b, c, s, seed) -> None:
    image = _picture(seed=seed)
    luma = np.array([0.299, 0.587, 0.114])
    contrasted = c * b * image + (1 - c) * (b * image @ luma).mean()
    expected = s * contrasted + (1 - s) * (contrasted @ luma)[..., None]
    varied = vary_colour(image, PLAIN._replace(colour=(b, c, s)))
    assert np.abs(varied - expected.clip(0, 255)).max() <= 1
