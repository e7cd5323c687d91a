"""Pixels in words become pictures, or none."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.sources.fer2013 import as_png


def words(values) -> str:
    return " ".join(str(value) for value in values)


@given(st.binary(min_size=48 * 48, max_size=48 * 48))
def test_a_picture_is_its_values_row_by_row(values: bytes):
    png = as_png(words(values))
    assert png is not None
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image.shape == (48, 48)
    assert image.tobytes() == values


@pytest.mark.parametrize(
    "wrong", ["256", "-1", "1.0", "x", "0x1", "²", "٣", "9" * 30, "9" * 5000, "", "1 2"]
)
def test_values_that_are_no_grey_are_no_picture(wrong: str):
    good = ["7"] * (48 * 48 - 1)
    assert as_png(" ".join([*good, "255"])) is not None
    assert as_png(" ".join([*good, wrong])) is None


def test_no_values_are_no_picture():
    assert as_png("") is None
