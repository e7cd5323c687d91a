import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.faces.fingerprint import THUMBNAIL_SIDE, fingerprint

NOISE = np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8)
SMOOTH = cv2.resize(NOISE[:6, :6], (180, 160), interpolation=cv2.INTER_CUBIC)


def noise(height: int, width: int, *, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def as_image(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE)


def test_pixel_hash_sees_one_pixel_and_the_shape():
    changed = NOISE.copy()
    changed[3, 4, 1] ^= 1
    hashes = {fingerprint(image).sha256 for image in (NOISE, changed, NOISE.reshape(24, 96, 3))}
    assert len(hashes) == 3
    assert fingerprint(NOISE[::-1][::-1]).sha256 == fingerprint(NOISE).sha256


def test_difference_hash_against_area_resize():
    # 72 x 64 px: every cell is 8 x 8, so OpenCV's mean of areas is the oracle (grey has no weights).
    image = np.repeat(cv2.resize(NOISE[:, :, :1], (72, 64))[:, :, None], 3, axis=2)
    cells = cv2.resize(image[:, :, 0].astype(np.float64), (9, 8), interpolation=cv2.INTER_AREA)
    bits = "".join(
        "01"[bool(cells[row, col] > cells[row, col + 1])] for row in range(8) for col in range(8)
    )
    assert fingerprint(image).dhash == int(bits, 2)


def test_difference_hash_has_a_bit_where_brightness_falls():
    falling = np.repeat(
        np.tile(np.arange(90, 0, -1, dtype=np.uint8), (80, 1))[:, :, None], 3, axis=2
    )
    assert fingerprint(falling).dhash == (1 << 64) - 1
    assert fingerprint(np.ascontiguousarray(falling[:, ::-1])).dhash == 0
    assert fingerprint(np.full_like(falling, 77)).dhash == 0
    upper = np.where(np.arange(80)[:, None, None] < 10, falling, 77)
    assert fingerprint(upper.astype(np.uint8)).dhash == 0xFF << 56


def test_difference_hash_survives_jpeg_and_size_but_not_another_picture():
    done, data = cv2.imencode(".jpg", SMOOTH, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert done
    copies = [cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.resize(SMOOTH, (90, 80))]
    for copy in copies:
        assert (fingerprint(SMOOTH).dhash ^ fingerprint(copy).dhash).bit_count() <= 4
    assert (fingerprint(SMOOTH).dhash ^ fingerprint(SMOOTH[:, ::-1]).dhash).bit_count() >= 16


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 9), (7, 100)])
def test_fingerprints_take_any_size(shape):
    image = noise(*shape)
    assert 0 <= fingerprint(image).dhash < 1 << 64
    assert len(fingerprint(image).thumbnail) == THUMBNAIL_SIDE**2


def test_grey_is_opencv_fixed_point_on_this_machine_too():
    red, green, blue = np.moveaxis(NOISE.astype(np.int64), 2, 0)
    expected = (9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15
    assert np.array_equal(cv2.cvtColor(NOISE, cv2.COLOR_RGB2GRAY), expected)


def test_sums_of_a_large_picture_do_not_overflow():
    white = np.full((2950, 2950, 3), 255, np.uint8)
    white[:, 1500:] = 254
    assert white[:, :, 0].sum(dtype=np.int64) > 2**31
    grey = as_image(fingerprint(white).thumbnail)
    assert (grey[:, :12] == 255).all()
    assert (grey[:, 13:] == 254).all()
    assert fingerprint(white).dhash == int("00011000" * 8, 2)


def exact_mean(grey: np.ndarray) -> np.ndarray:
    """Every pixel split into 24 x 24 equal pieces, the pieces averaged by cell."""
    height, width = grey.shape
    pieces = np.repeat(np.repeat(grey.astype(np.int64), 24, axis=0), 24, axis=1)
    sums = pieces.reshape(24, height, 24, width).sum(axis=(1, 3))
    return (2 * sums + height * width) // (2 * height * width)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 9))
def test_thumbnail_is_the_exact_mean_of_areas_rounded_half_up(height, width, seed):
    image = noise(height, width, seed=seed)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert np.array_equal(as_image(fingerprint(image).thumbnail), exact_mean(grey))


@pytest.mark.parametrize("shape", [(48, 48), (100, 100), (24, 24), (224, 181), (1, 5000), (37, 24)])
def test_thumbnail_against_opencv_area_resize(shape):
    image = noise(*shape)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # OpenCV's area method is one for shrinking only; repeated pixels make a side long enough.
    for axis, side in enumerate(shape):
        grey = np.repeat(grey, 24 if side < 24 else 1, axis=axis)
    expected = cv2.resize(grey, (24, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(as_image(fingerprint(image).thumbnail).astype(int) - expected).max() <= 1


@given(st.integers(1, 120), st.integers(1, 120))
def test_a_mirrored_picture_has_the_mirrored_thumbnail(height, width):
    image = noise(height, width)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    assert np.array_equal(
        as_image(fingerprint(mirrored).thumbnail), as_image(fingerprint(image).thumbnail)[:, ::-1]
    )


def test_thumbnail_survives_jpeg_and_size():
    done, data = cv2.imencode(".jpg", SMOOTH, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert done
    original = as_image(fingerprint(SMOOTH).thumbnail).astype(int)
    for copy in (cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.resize(SMOOTH, (90, 80))):
        assert np.abs(as_image(fingerprint(copy).thumbnail) - original).mean() < 3
    other = as_image(fingerprint(SMOOTH[::-1]).thumbnail).astype(int)
    assert np.abs(other - original).mean() > 20
