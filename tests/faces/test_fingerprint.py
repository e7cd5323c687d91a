"""A hash of pixels, and two prints that small changes leave alike."""

import cv2
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from stages.faces.fingerprint import THUMBNAIL_SIDE, fingerprint

NOISE = np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8)


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
    assert fingerprint(np.full_like(image, 77)).dhash == 0


def test_grey_is_opencv_fixed_point_on_this_machine_too() -> None:
    red, green, blue = np.moveaxis(NOISE.astype(np.int64), 2, 0)
    expected = (9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15
    assert np.array_equal(cv2.cvtColor(NOISE, cv2.COLOR_RGB2GRAY), expected)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 9))
@example(1, 5000, 0)
def test_thumbnail_is_the_exact_mean_of_areas_rounded_half_up(height, width, seed) -> None:
    """Every pixel is split into 24 x 24 equal pieces, and the pieces are averaged by cell."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    pieces = grey.astype(np.int64).repeat(24, axis=0).repeat(24, axis=1)
    sums = pieces.reshape(24, height, 24, width).sum(axis=(1, 3))
    area = height * width
    assert np.array_equal(thumbnail(image), (2 * sums + area) // (2 * area))
    mirrored = np.ascontiguousarray(image[:, ::-1])
    assert np.array_equal(thumbnail(mirrored), thumbnail(image)[:, ::-1])
