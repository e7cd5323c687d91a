"""A hash of pixels, and two prints that small changes leave alike."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.faces.fingerprint import THUMBNAIL_SIDE, fingerprint

NOISE = np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8)
SMOOTH = cv2.resize(NOISE[:6, :6], (180, 160), interpolation=cv2.INTER_CUBIC)


def noise(height: int, width: int, *, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def thumbnail(image: np.ndarray) -> np.ndarray:
    return np.frombuffer(fingerprint(image).thumbnail, np.uint8).reshape(2 * [THUMBNAIL_SIDE])


def test_pixel_hash_sees_one_pixel_and_the_shape() -> None:
    changed = NOISE.copy()
    changed[3, 4, 1] ^= 1
    hashes = {fingerprint(image).sha256 for image in (NOISE, changed, NOISE.reshape(24, 96, 3))}
    assert len(hashes) == 3
    assert fingerprint(NOISE[::-1][::-1]).sha256 == fingerprint(NOISE).sha256


def test_difference_hash_against_area_resize() -> None:
    # 72 x 64 px: every cell is 8 x 8, so OpenCV's mean of areas is the oracle (grey has no weights).
    image = np.repeat(cv2.resize(NOISE[:, :, :1], (72, 64))[:, :, None], 3, axis=2)
    cells = cv2.resize(image[:, :, 0].astype(np.float64), (9, 8), interpolation=cv2.INTER_AREA)
    bits = (cells[:, :-1] > cells[:, 1:]).ravel().astype(int)
    assert fingerprint(image).dhash == int("".join(map(str, bits)), 2)


def test_difference_hash_has_a_bit_where_brightness_falls() -> None:
    row = np.arange(90, 0, -1, dtype=np.uint8)[None, :, None]
    falling = np.broadcast_to(row, (80, 90, 3)).copy()
    assert fingerprint(falling).dhash == (1 << 64) - 1
    assert fingerprint(np.ascontiguousarray(falling[:, ::-1])).dhash == 0
    assert fingerprint(np.full_like(falling, 77)).dhash == 0
    falling[10:] = 77
    assert fingerprint(falling).dhash == 0xFF << 56


def test_prints_survive_jpeg_and_size_but_not_another_picture() -> None:
    data = cv2.imencode(".jpg", SMOOTH, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]

    def distances(copy: np.ndarray) -> tuple[int, float]:
        bits = (fingerprint(SMOOTH).dhash ^ fingerprint(copy).dhash).bit_count()
        return bits, np.abs(thumbnail(SMOOTH).astype(int) - thumbnail(copy)).mean()

    for copy in (cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.resize(SMOOTH, (90, 80))):
        bits, difference = distances(copy)
        assert bits <= 4
        assert difference < 3
    assert distances(SMOOTH[:, ::-1])[0] >= 16
    assert distances(SMOOTH[::-1])[1] > 20


def test_grey_is_opencv_fixed_point_on_this_machine_too() -> None:
    red, green, blue = np.moveaxis(NOISE.astype(np.int64), 2, 0)
    expected = (9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15
    assert np.array_equal(cv2.cvtColor(NOISE, cv2.COLOR_RGB2GRAY), expected)


def test_sums_of_a_large_picture_do_not_overflow() -> None:
    white = np.full((2950, 2950, 3), 255, np.uint8)
    white[:, 1500:] = 254
    assert white[:, :, 0].sum(dtype=np.int64) > 2**31
    grey = thumbnail(white)
    assert (grey[:, :12] == 255).all()
    assert (grey[:, 13:] == 254).all()
    assert fingerprint(white).dhash == int("00011000" * 8, 2)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 9))
@example(1, 1, 0)
def test_thumbnail_is_the_exact_mean_of_areas_rounded_half_up(height, width, seed) -> None:
    """Every pixel is split into 24 x 24 equal pieces, and the pieces are averaged by cell."""
    image = noise(height, width, seed=seed)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    pieces = grey.astype(np.int64).repeat(24, axis=0).repeat(24, axis=1)
    sums = pieces.reshape(24, height, 24, width).sum(axis=(1, 3))
    area = height * width
    assert np.array_equal(thumbnail(image), (2 * sums + area) // (2 * area))
    mirrored = np.ascontiguousarray(image[:, ::-1])
    assert np.array_equal(thumbnail(mirrored), thumbnail(image)[:, ::-1])


@pytest.mark.parametrize("shape", [(100, 100), (224, 181), (1, 5000), (37, 24)])
def test_thumbnail_against_opencv_area_resize(shape) -> None:
    image = noise(*shape)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # OpenCV's area method is one for shrinking only; repeated pixels make a side long enough.
    for axis, side in enumerate(shape):
        grey = np.repeat(grey, 24 if side < 24 else 1, axis=axis)
    expected = cv2.resize(grey, (24, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(thumbnail(image).astype(int) - expected).max() <= 1
