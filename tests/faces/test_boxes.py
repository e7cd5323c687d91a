"""Boxes as a dataset states them become boxes in the photo as it is seen."""

import io
import math

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.faces.decode import Box, BoxPx, UnusableImageError, decode

HEIGHT, WIDTH = 24, 40


def in_pixels(shares, *, width: int = 80, height: int = 60, tag: int = 1) -> BoxPx:
    box = Box(*shares, unit="share", pixels="stored")
    return box.as_seen(orientation=tag, width=width, height=height)


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
    file, exif = io.BytesIO(), PIL.Image.Exif()
    exif[0x0112] = tag
    PIL.Image.fromarray(marked).save(file, "PNG", exif=exif)
    image = decode(file.getvalue())
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


def test_shares_become_the_nearest_pixels_or_lie_outside() -> None:
    assert in_pixels((0.2512, 0.4917, 0.2563, 0.5083)) == (20, 30, 21, 30)
    assert in_pixels((-0.1, 0, 1.1, 2)) == (-8, 0, 88, 120)
    for share in (math.nan, -math.inf, 1e308):
        with pytest.raises(UnusableImageError, match=str(share).replace("+", r"\+")) as caught:
            in_pixels([0.1, 0.1, 0.9, share])
        assert caught.value.reason == "box_outside"


def test_a_box_says_what_it_counts() -> None:
    shares = Box(0.25, 0.5, 1 / 3, 1, unit="share", pixels="turned")
    assert str(shares) == "box (0.25, 0.5)-(0.333333, 1) share of the turned picture"
