import cv2
import numpy as np
import pytest

from stages.preprocessing.fingerprint import difference_hash, pixel_sha256

NOISE = np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8)
SMOOTH = cv2.resize(NOISE[:6, :6], (180, 160), interpolation=cv2.INTER_CUBIC)


def test_pixel_hash_sees_one_pixel_and_the_shape():
    changed = NOISE.copy()
    changed[3, 4, 1] ^= 1
    hashes = {pixel_sha256(image) for image in (NOISE, changed, NOISE.reshape(24, 96, 3))}
    assert len(hashes) == 3
    assert pixel_sha256(NOISE[::-1][::-1]) == pixel_sha256(NOISE)


def test_difference_hash_against_area_resize():
    # 72 x 64 px: every cell is 8 x 8, so OpenCV's mean of areas is the oracle (grey has no weights).
    image = np.repeat(cv2.resize(NOISE[:, :, :1], (72, 64))[:, :, None], 3, axis=2)
    cells = cv2.resize(image[:, :, 0].astype(np.float64), (9, 8), interpolation=cv2.INTER_AREA)
    bits = "".join(
        "01"[bool(cells[row, col] > cells[row, col + 1])] for row in range(8) for col in range(8)
    )
    assert difference_hash(image) == int(bits, 2)


def test_difference_hash_survives_jpeg_and_size_but_not_another_picture():
    done, data = cv2.imencode(".jpg", SMOOTH, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert done
    copies = [cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.resize(SMOOTH, (90, 80))]
    for copy in copies:
        assert (difference_hash(SMOOTH) ^ difference_hash(copy)).bit_count() <= 4
    assert (difference_hash(SMOOTH) ^ difference_hash(SMOOTH[:, ::-1])).bit_count() >= 16


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 9), (7, 100)])
def test_difference_hash_takes_any_size(shape):
    image = np.random.default_rng(2).integers(0, 256, (*shape, 3), np.uint8)
    assert 0 <= difference_hash(image) < 1 << 64
