import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipped import shipped

from stages.config import Augmentation
from stages.faces.model_input import resize_square
from stages.loading.augmentation import (
    MAX_ASPECT,
    MAX_SIGMA,
    Variation,
    draw_variation,
    vary_colour,
    vary_geometry,
    vary_quality,
)
from tests.loading.conftest import STRONG

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


@given(seeds)
def test_no_key_changes_what_another_draws(seed) -> None:
    """A face is cropped, mirrored and coloured as ever when a key that came later is set."""

    def drawn(**keys: float) -> dict[str, object]:
        augmentation = shipped(Augmentation, **keys)
        return draw_variation(augmentation, rng=np.random.default_rng(seed))._asdict()

    plain, together = drawn(), drawn(**STRONG)
    fields = []
    for key, value in STRONG.items():
        alone = drawn(**{key: value})
        (field,) = {name for name in plain if alone[name] != plain[name]}
        assert alone[field] == together[field]
        fields.append(field)
    assert {*fields} == {*Variation._field_defaults, "colour"}
    varied = Variation(**together)
    assert varied.colour == (*plain["colour"][:2], 0.0)
    assert max(abs(varied.rotation_deg) / 30, *(abs(part) / 0.2 for part in varied.shift)) <= 1
    assert 0.6 <= varied.zoom <= 1
    assert 1 / 3 <= varied.resolution < 1
    assert 0 < varied.sigma <= MAX_SIGMA
    assert varied.jpeg_quality in range(30, 96)
    assert abs(np.log(varied.gamma)) <= 0.5
    width, height, left, top = varied.hole
    assert 0.02 <= width * height <= 0.2
    assert 1 / 3.3 <= width / height <= 3.3
    assert 0 <= left <= left + width <= 1
    assert 0 <= top <= top + height <= 1


def test_geometry_is_crop_then_resize_then_mirror() -> None:
    image, varied = _picture(), np.empty((40, 40, 3), np.uint8)
    variation = PLAIN._replace(width=0.5, height=0.75, left=0.25, top=0.1, mirrored=True)
    vary_geometry(image, variation, out=varied)
    assert np.array_equal(varied, resize_square(image[4:34, 12:36], size=40)[:, ::-1])


@given(st.integers(1, 40), st.integers(1, 40), seeds)
def test_geometry_takes_pictures_of_any_size(height, width, seed) -> None:
    for keys in ({}, STRONG):
        augmentation = shipped(Augmentation, crop_scale=(0.01, 1.0), **keys)
        variation = draw_variation(augmentation, rng=np.random.default_rng(seed))
        varied = np.empty((32, 32, 3), np.uint8)
        vary_geometry(_picture(height, width), variation, out=varied)
        vary_quality(varied, variation)


# Some pictures are finer than the result, up to more than twice.
@pytest.mark.parametrize("side", [100, 24])
@pytest.mark.parametrize(
    "changes",
    [
        {"rotation_deg": 30.0},
        {"shift": (0.2, -0.1)},
        {"zoom": 0.6},
        {"rotation_deg": -20.0, "shift": (0.1, 0.2), "zoom": 0.8, "mirrored": True},
        {"zoom": 0.9, "width": 0.7, "height": 0.5, "left": 0.3, "top": 0.25},
    ],
)
def test_a_moved_face_stands_where_it_was_moved_to(side, changes) -> None:
    """Each pixel of the picture says where it is, so that its place in the result is checked."""
    y, x = np.mgrid[:100, :120]
    varied, variation = np.empty((side, side, 3), np.uint8), PLAIN._replace(**changes)
    vary_geometry(np.dstack([2 * x, 2 * y, 0 * x]).astype(np.uint8), variation, out=varied)
    found_x, found_y = varied[..., 0] / 2, varied[..., 1] / 2
    # The steps one by one, of places as complex numbers about the crop's middle.
    place = ((found_x + 0.5) / 120 - variation.left) / variation.width - 0.5
    place = place + 1j * (((found_y + 0.5) / 100 - variation.top) / variation.height - 0.5)
    place = -place.conj() if variation.mirrored else place
    place = place * variation.zoom * np.exp(-1j * np.deg2rad(variation.rotation_deg))
    place = (place + complex(*variation.shift) + 0.5 + 0.5j) * side - 0.5
    rows, columns = np.mgrid[:side, :side]
    # Beyond the middles of the outermost pixels, up to 9 px wide, the border is repeated.
    inside = (found_x > 5) & (found_x < 114) & (found_y > 5) & (found_y < 94)
    assert inside.mean() > 0.2
    assert np.abs(place - (columns + 1j * rows))[inside].max() < 1.5


@pytest.mark.parametrize(("side", "size"), [(512, 260), (400, 224), (300, 224)])
@pytest.mark.parametrize(
    ("changes", "tolerance"), [({"shift": (0.25, 0.25)}, 0.05), ({"rotation_deg": 10.0}, 0.15)]
)
def test_a_moved_face_is_as_sharp_as_in_evaluation(side, size, changes, tolerance) -> None:
    def sharpness(face: np.ndarray) -> float:
        inside = face[size // 3 : -size // 8, size // 3 : -size // 8].astype(np.float32)
        return float(cv2.Laplacian(inside, cv2.CV_32F).std())

    image, varied = _picture(side, side), np.empty((size, size, 3), np.uint8)
    vary_geometry(image, PLAIN._replace(**changes), out=varied)
    evaluated = sharpness(resize_square(image, size=size))
    assert sharpness(varied) == pytest.approx(evaluated, rel=tolerance)


def test_a_border_is_repeated_where_a_moved_picture_ends() -> None:
    image, varied = _picture(40, 40), np.empty((40, 40, 3), np.uint8)
    vary_geometry(image, PLAIN._replace(shift=(0.25, 0.0)), out=varied)
    assert np.array_equal(varied[:, 10:], image[:, :30])
    assert np.array_equal(varied[:, :10], image[:, :1].repeat(10, axis=1))


@pytest.mark.parametrize("side", [64, 224])
def test_blur_is_as_wide_as_its_share_of_the_side(side) -> None:
    image = np.zeros((side, side, 3), np.uint8)
    image[:, side // 2] = 255
    vary_quality(image, PLAIN._replace(sigma=MAX_SIGMA))
    profile, offset = image[side // 2, :, 0].astype(float), np.arange(side) - side // 2
    assert np.average(offset**2, weights=profile) ** 0.5 == pytest.approx(1.5 * side / 64, rel=0.1)


@pytest.mark.parametrize(
    "stronger", [[{"jpeg_quality": q} for q in (95, 30)], [{"resolution": r} for r in (0.6, 1 / 3)]]
)
def test_quality_is_lost_and_the_mean_stays(stronger) -> None:
    image, losses = _picture(64, 64), []
    for changes in ({}, *stronger):
        varied = image.copy()
        vary_quality(varied, PLAIN._replace(**changes))
        assert np.abs(varied.mean((0, 1)) - image.mean((0, 1))).max() < 3
        losses.append(np.abs(varied.astype(float) - image).mean())
    assert 0 == losses[0] < losses[1] < losses[2]


def test_tones_are_bent_and_the_hole_has_the_mean() -> None:
    image, varied = _picture(40, 40), _picture(40, 40)
    vary_quality(varied, PLAIN._replace(gamma=1.5, hole=(0.5, 0.25, 0.1, 0.2)))
    bent = 255 * (image / 255) ** 1.5
    hole = np.zeros((40, 40), bool)
    hole[8:18, 4:24] = True
    assert np.abs(varied - bent)[~hole].max() <= 0.5
    assert np.abs(varied[hole] - bent.mean((0, 1))).max() <= 1


@given(st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.integers(0, 5))
def test_colour_is_brightness_contrast_saturation_in_turn(b, c, s, seed) -> None:
    image = _picture(seed=seed)
    luma = np.array([0.299, 0.587, 0.114])
    contrasted = c * b * image + (1 - c) * (b * image @ luma).mean()
    expected = s * contrasted + (1 - s) * (contrasted @ luma)[..., None]
    varied = vary_colour(image, PLAIN._replace(colour=(b, c, s)))
    assert np.abs(varied - expected.clip(0, 255)).max() <= 1
