"""Whole JPEGs have OpenCV's pixels, and OpenCV still judges the others."""

import cv2
import numpy as np
import pytest

from stages.faces import decode as module
from stages.faces.decode import UnusableImageError, decode

SAMPLINGS = {
    "411": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "440": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}


@pytest.mark.parametrize("size", [(1, 1), (8, 17), (97, 63), (224, 224)])
@pytest.mark.parametrize("quality", [10, 75, 100])
@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("sampling", [*SAMPLINGS, "grey"])
def test_pixels_are_those_of_opencv(
    monkeypatch: pytest.MonkeyPatch, size, quality, progressive, sampling
) -> None:
    data = _jpeg(size, quality=quality, progressive=progressive, sampling=sampling)
    expected = _by_opencv(data)
    monkeypatch.setattr(module, "cv2", None)
    assert np.array_equal(decode(data), expected)
    # A shard hands out memory of signed bytes.
    assert np.array_equal(decode(memoryview(data).cast("b")), expected)


def test_a_buffer_is_used_if_it_has_room() -> None:
    data = _jpeg((20, 30))
    expected = _by_opencv(data)
    exact, small = np.zeros(20 * 30 * 3, np.uint8), np.zeros(20 * 30 * 3 - 1, np.uint8)
    found = decode(data, buffer=exact)
    assert np.array_equal(found, expected)
    assert np.shares_memory(found, exact)
    assert np.array_equal(decode(data, buffer=small), expected)
    assert not small.any()


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.99])
def test_opencv_judges_what_is_cut_short(kept: float) -> None:
    data = _jpeg((97, 63))
    data = data[: int(kept * len(data))]
    expected = _by_opencv(data)
    if expected is None:
        with pytest.raises(UnusableImageError):
            decode(data)
    else:
        assert np.array_equal(decode(data), expected)


def test_an_orientation_is_applied() -> None:
    data = _jpeg((97, 63))
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    body = b"Exif\0\0" + tiff
    turned = data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]
    assert decode(turned).shape == (63, 97, 3)


def _jpeg(
    size: tuple[int, int], *, quality: int = 90, progressive: int = 0, sampling: str = "420"
) -> bytes:
    shape = size if sampling == "grey" else (*size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    if sampling != "grey":
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling]]
    done, data = cv2.imencode(".jpg", cv2.blur(noise, (3, 3)), options)
    assert done
    return bytes(data)


def _by_opencv(data: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
