"""Whole JPEGs have OpenCV's pixels, and OpenCV still judges the others."""

import random

import cv2
import numpy as np
import pytest

from stages.faces import decode as module
from stages.faces.decode import UnusableImageError, decode, encode_png
from tests.faces.test_decode import FLAT, NOISE, encoded, mutated, saved

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


def test_the_bytes_of_a_shard_decode_as_well() -> None:
    """Arrow hands out memory of signed bytes, which compares with no other."""
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(decode(memoryview(encode_png(image)).cast("b")), image)


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


JPEGS = [
    saved(FLAT, "JPEG"),
    saved(FLAT, "JPEG", progressive=True, comment=b"drawn"),
    saved(FLAT.convert("L"), "JPEG", restart_marker_rows=1),
    saved(FLAT, "JPEG", optimize=True, subsampling=0),
    encoded(NOISE, ".jpg"),
]


def outcome(data: bytes) -> tuple[object, ...]:
    try:
        image = decode(data)
    except UnusableImageError as error:
        return error.reason, error.detail
    return image.shape, image.tobytes()


def test_at_whole_jpegs_neither_pillow_nor_opencv_need_look(monkeypatch: pytest.MonkeyPatch):
    expected = [outcome(data) for data in JPEGS]
    monkeypatch.setattr(module, "_checked_header", None)
    monkeypatch.setattr(module, "cv2", None)
    assert [outcome(data) for data in JPEGS] == expected


@pytest.mark.filterwarnings("ignore")
def test_a_jpeg_is_refused_as_pillow_alone_would_refuse_it(monkeypatch: pytest.MonkeyPatch):
    rng = random.Random(3)
    broken = [mutated(data[:700], rng) + data[700:] for data in JPEGS for _ in range(200)]
    # Every byte of the headers, so that no field is left out.
    header = JPEGS[2].index(b"\xff\xda")
    broken += [
        JPEGS[2][:place] + bytes([value]) + JPEGS[2][place + 1 :]
        for place in range(3, header)
        for value in (0, 3, 12, 255)
    ]
    found = [outcome(data) for data in broken]
    monkeypatch.setattr(module, "_decode_jpeg", lambda *_, **__: None)
    assert found == [outcome(data) for data in broken]


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
