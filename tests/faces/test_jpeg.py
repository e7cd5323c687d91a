"""Whole JPEGs have OpenCV's pixels without OpenCV, which still judges the others."""

import random

import cv2
import numpy as np
import pytest

from stages.faces import decode as module
from stages.faces.decode import decode, orientation
from tests.faces.test_decode import FLAT, NOISE, encoded, mutated, outcome, saved

SAMPLINGS = ["411", "420", "422", "440", "444"]


def jpeg(size: tuple[int, int], *, quality: int = 90, progressive: int = 0, sampling: str = "420"):
    shape = size if sampling == "grey" else (*size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    if sampling != "grey":
        factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    return encoded(cv2.blur(noise, (3, 3)), ".jpg", options)


def by_opencv(data: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("sampling", [*SAMPLINGS, "grey"])
def test_pixels_of_a_whole_jpeg_are_those_of_opencv(monkeypatch, progressive, sampling):
    """Neither Pillow nor OpenCV need look at it, nor at its orientation."""
    for size in ((1, 1), (8, 17), (97, 63), (224, 224)):
        for quality in (10, 75, 100):
            data = jpeg(size, quality=quality, progressive=progressive, sampling=sampling)
            expected = by_opencv(data)
            with monkeypatch.context() as context:
                context.setattr(module, "cv2", None)
                context.setattr(module, "_checked_header", None)
                assert np.array_equal(decode(memoryview(data).cast("b")), expected)
                assert orientation(data, image=expected) == 1


def test_a_buffer_is_used_if_it_has_room():
    data = jpeg((20, 30))
    exact, small = np.zeros(20 * 30 * 3, np.uint8), np.zeros(20 * 30 * 3 - 1, np.uint8)
    image = decode(data, buffer=exact)
    assert np.array_equal(image, by_opencv(data))
    assert np.shares_memory(image, exact)
    assert np.array_equal(decode(data, buffer=small), image)
    assert not small.any()


JPEGS = [
    saved(FLAT, "JPEG"),
    saved(FLAT, "JPEG", progressive=True, comment=b"drawn"),
    saved(FLAT.convert("L"), "JPEG", restart_marker_rows=1),
    saved(FLAT, "JPEG", optimize=True, subsampling=0),
    encoded(NOISE, ".jpg"),
]


@pytest.mark.filterwarnings("ignore")
def test_a_jpeg_is_refused_as_pillow_alone_would_refuse_it(monkeypatch: pytest.MonkeyPatch):
    rng = random.Random(3)
    broken = [mutated(data[:700], rng) + data[700:] for data in JPEGS for _ in range(200)]
    broken += [data[: int(share * len(data))] for data in JPEGS for share in (0.2, 0.5, 0.9, 0.99)]
    # Every byte of the headers, so that no field is left out.
    whole = JPEGS[2]
    for place in range(3, whole.index(b"\xff\xda")):
        broken += [whole[:place] + bytes([n]) + whole[place + 1 :] for n in (0, 3, 12, 255)]
    outcomes = [outcome(data) for data in broken]
    monkeypatch.setattr(module, "_decode_jpeg", lambda *_, **__: None)
    assert outcomes == [outcome(data) for data in broken]
