import cv2
import numpy as np
import pytest

from stages.runtime.seed import generator
from tools.sample.raw import Raw, encode_jpeg, encode_png


def test_contents_are_sorted_and_lines_end_alike_everywhere():
    raw = Raw()
    raw.add("b/x.png", b"1")
    raw.add_line("a/list.txt", "one")
    raw.add_line("a/list.txt", "two")
    assert list(raw.contents().items()) == [("a/list.txt", b"one\ntwo\n"), ("b/x.png", b"1")]


def test_no_path_is_used_twice():
    raw = Raw()
    raw.add("x", b"1")
    with pytest.raises(AssertionError, match="x"):
        raw.add("x", b"2")


def test_png_keeps_pixels_at_every_level_and_jpeg_keeps_colours_in_order():
    grey = generator(1, "raw").integers(0, 256, (48, 48)).astype(np.uint8)
    small, large = encode_png(grey), encode_png(grey, level=1)
    assert small != large
    for data in (small, large):
        assert (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) == grey).all()
    red = np.full((16, 16, 3), (200, 30, 40), np.uint8)
    blue_first = cv2.imdecode(np.frombuffer(encode_jpeg(red), np.uint8), cv2.IMREAD_COLOR)
    assert blue_first[8, 8] == pytest.approx([40, 30, 200], abs=4)
