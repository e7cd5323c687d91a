"""Boxes in photos that EXIF turns, and the orientation that decoding applied."""

import io
import math

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.faces.boxes import Box, BoxPx
from stages.faces.decode import UnusableImageError, decode, encode_png, orientation

IMAGE = np.random.default_rng(3).integers(0, 256, (3, 5, 3), np.uint8)
IMAGE = IMAGE.repeat(8, axis=0).repeat(8, axis=1)
HEIGHT, WIDTH = IMAGE.shape[:2]
FORMS = ["JPEG", "PNG", "TIFF", "WEBP"]


def saved(form: str, tag: int | None, mode: str = "RGB", image: np.ndarray = IMAGE) -> bytes:
    file, exif = io.BytesIO(), PIL.Image.Exif()
    if tag is not None:
        exif[0x0112] = tag
    options = {} if tag is None else {"exif": exif}
    PIL.Image.fromarray(image).convert(mode).save(file, form, **options)
    return file.getvalue()


def in_pixels(shares, *, width: int = 80, height: int = 60, tag: int = 1) -> BoxPx:
    box = Box(*shares, unit="share", pixels="stored")
    return box.as_seen(orientation=tag, width=width, height=height)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tag", [None, *range(1, 9)])
def test_the_orientation_is_the_one_that_decoding_applied(form, tag, mode) -> None:
    data = saved(form, tag, mode if form != "JPEG" or mode != "RGBA" else "RGB")
    assert orientation(data, image=decode(data)) == (tag or 1)


@pytest.mark.parametrize(
    ("form", "tag"),
    [*((form, tag) for form in FORMS for tag in (0, 9, 4000)), ("BMP", None), ("GIF", None)],
)
def test_a_tag_that_means_nothing_or_is_not_there_turns_nothing(form, tag) -> None:
    data = saved(form, tag)
    assert orientation(data, image=decode(data)) == 1


def test_a_picture_that_is_the_same_all_around_has_no_orientation() -> None:
    data = encode_png(np.zeros((8, 8, 3), np.uint8))
    assert orientation(data, image=decode(data)) == 1


def test_exif_that_only_one_reader_understands_counts_as_it_was_applied() -> None:
    data = saved("JPEG", 6)
    # The tag as a LONG of big-endian EXIF: Pillow reads 6, OpenCV 0.
    at = data.index(b"\x01\x12\x00\x03")
    data = data[:at] + b"\x01\x12\x00\x04\x00\x00\x00\x01\x00\x00\x00\x06" + data[at + 12 :]
    image = decode(data)
    turned = image.shape == (WIDTH, HEIGHT, 3)
    assert orientation(data, image=image) == (6 if turned else 1)


def test_a_plain_jpeg_is_not_decoded_again(monkeypatch) -> None:
    data = saved("JPEG", None)
    image = decode(data)
    monkeypatch.setattr(cv2, "imdecode", None)
    assert orientation(data, image=image) == 1


@given(
    st.integers(1, 8),
    st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1)),
    st.tuples(st.integers(1, WIDTH), st.integers(1, HEIGHT)),
)
def test_a_turned_box_holds_the_same_pixels(tag, corner, size) -> None:
    left, top = corner
    right, bottom = min(left + size[0], WIDTH), min(top + size[1], HEIGHT)
    marked = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    marked[top:bottom, left:right] = 255
    image = decode(saved("PNG", tag, image=marked))
    rows, columns = np.nonzero(image[:, :, 0])
    seen = {"orientation": tag, "width": image.shape[1], "height": image.shape[0]}
    expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert Box(left, top, right, bottom, unit="px", pixels="stored").as_seen(**seen) == expected
    assert Box(*expected, unit="px", pixels="turned").as_seen(**seen) == expected


@given(st.integers(1, 8), st.tuples(*[st.integers(-50, 50)] * 4))
def test_an_empty_box_stays_one_and_shares_go_with_pixels(tag, edges) -> None:
    seen = {"orientation": tag, "width": 64, "height": 64}
    box = Box(*edges, unit="px", pixels="stored").as_seen(**seen)
    was_empty = edges[2] <= edges[0] or edges[3] <= edges[1]
    assert (box.right <= box.left or box.bottom <= box.top) == was_empty
    assert in_pixels([edge / 64 for edge in edges], width=64, height=64, tag=tag) == box


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0, 0, 1, 1), (0, 0, 80, 60)),
        ((0.25, 0.5, 0.75, 0.75), (20, 30, 60, 45)),
        ((0.2512, 0.4917, 0.2563, 0.5083), (20, 30, 21, 30)),
        ((-0.1, 0, 1.1, 2), (-8, 0, 88, 120)),
    ],
)
def test_shares_become_the_nearest_pixels(shares, expected):
    assert in_pixels(shares) == BoxPx(*expected)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("share", [math.nan, math.inf, -math.inf, 1e308])
def test_a_share_that_is_no_finite_number_lies_outside(share, place):
    shares = [0.1, 0.1, 0.9, 0.9]
    shares[place] = share
    with pytest.raises(UnusableImageError, match=str(share).replace("+", r"\+")) as caught:
        in_pixels(shares)
    assert caught.value.reason == "box_outside"


@given(st.tuples(st.floats(), st.floats(), st.floats(), st.floats()))
@example((0.0, 0.0, 1e9, 1e9))
def test_wild_shares_give_whole_pixels_or_a_reason(shares):
    try:
        edges = in_pixels(shares)
    except UnusableImageError:
        return
    assert all(isinstance(edge, int) for edge in edges)
