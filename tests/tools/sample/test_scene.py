import cv2
import numpy as np
import pytest

from stages.runtime.seed import generator
from tools.sample.scene import add_noise, draw_background, light, reduce, soften, to_grey


@pytest.fixture
def picture():
    return generator(1, "scene").integers(0, 256, (48, 60, 3)).astype(np.uint8)


def difference(one, two):
    return np.abs(one.astype(int) - two.astype(int)).max()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_reduce_is_opencv_s_area_interpolation(picture, factor):
    expected = cv2.resize(picture, (60 // factor, 48 // factor), interpolation=cv2.INTER_AREA)
    assert difference(reduce(picture, factor=factor), expected) <= 1


def test_soften_is_opencv_s_binomial_blur(picture):
    expected = cv2.GaussianBlur(picture, (3, 3), 0, borderType=cv2.BORDER_REPLICATE)
    assert difference(soften(picture, passes=1), expected) <= 1
    assert (soften(picture, passes=0) == picture).all()


def test_to_grey_is_opencv_s(picture):
    assert difference(to_grey(picture), cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)) <= 1


def test_noise_has_its_strength_and_no_colour(picture):
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = add_noise(grey, strength=12, rng=generator(2, "noise")).astype(int) - 128
    assert np.ptp(noise, axis=2).max() == 0
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(12 / np.sqrt(6), rel=0.05)
    assert (add_noise(picture, strength=0, rng=generator(2, "noise")) == picture).all()


def test_light_comes_from_the_side_of_the_slope():
    lit = light(np.full((40, 40, 3), 100, np.uint8), exposure=1, slope=(0.4, 0), warmth=0)
    assert lit[20, 0, 0] == 80
    assert lit[20, -1, 0] == 120


def test_backgrounds_vary_and_repeat():
    first = [draw_background(40, 60, rng=generator(n, "wall")) for n in range(12)]
    again = [draw_background(40, 60, rng=generator(n, "wall")) for n in range(12)]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert len({image.tobytes() for image in first}) == 12
    assert first[0].shape == (40, 60, 3)
