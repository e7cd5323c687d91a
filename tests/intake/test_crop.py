import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.faces.boxes import BoxPx, BoxShare
from stages.faces.decode import UnusableImageError
from stages.intake.crop import crop_square, in_pixels, lies_inside, visible_px

# Each pixel says where it is: row, column, 0.
PHOTO = np.dstack([*np.indices((60, 80)), np.zeros((60, 80))]).astype(np.uint8)
REASONS = {"box_empty", "box_outside", "image_too_large"}


def square_or_reason(box: BoxPx | BoxShare, *, margin: float) -> tuple[int, int] | str:
    try:
        if isinstance(box, BoxShare):
            box = in_pixels(box, width=80, height=60)
        return crop_square(PHOTO, box=box, margin=margin).shape[:2]
    except UnusableImageError as error:
        return error.reason


def test_a_square_box_without_margin_is_cut_out_as_it_is():
    face = crop_square(PHOTO, box=BoxPx(10, 20, 30, 40), margin=0)
    assert np.array_equal(face, PHOTO[20:40, 10:30])


def test_the_margin_is_a_share_of_the_longer_side_on_every_side():
    face = crop_square(PHOTO, box=BoxPx(30, 20, 40, 40), margin=0.30)
    assert face.shape == (32, 32, 3)  # 20 * 1.6
    assert np.array_equal(face, PHOTO[14:46, 19:51])  # the centre stays (35, 30)


def test_beyond_the_edge_the_edge_is_repeated():
    face = crop_square(PHOTO, box=BoxPx(0, 0, 10, 10), margin=0.30)
    assert face.shape == (16, 16, 3)
    assert np.array_equal(face[3:, 3:], PHOTO[:13, :13])
    assert np.array_equal(face[0, 3:], PHOTO[0, :13])
    assert np.array_equal(face[:4, :4], np.broadcast_to(PHOTO[0, 0], (4, 4, 3)))


@given(
    st.tuples(st.integers(-40, 79), st.integers(-40, 59)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.floats(0, 1),
)
def test_any_box_gives_a_square_or_a_reason(corner, size, margin):
    left, top = corner
    box = BoxPx(left, top, left + size[0], top + size[1])
    inside = np.zeros((60, 80), bool)
    inside[max(top, 0) : max(box.bottom, 0), max(left, 0) : max(box.right, 0)] = True
    assert lies_inside(PHOTO, box=box) == (inside.sum() == size[0] * size[1])
    if 2 * inside.sum() < size[0] * size[1]:
        with pytest.raises(UnusableImageError, match="box_outside"):
            crop_square(PHOTO, box=box, margin=margin)
        return
    face = crop_square(PHOTO, box=box, margin=margin)
    assert face.shape == (face.shape[0], face.shape[0], 3)
    assert abs(face.shape[0] - max(size) * (1 + 2 * margin)) <= 0.5
    assert visible_px(PHOTO, box=box) == min(inside.any(1).sum(), inside.any(0).sum())


@pytest.mark.parametrize("box", [(10, 10, 10, 20), (10, 20, 20, 10), (30, 30, 10, 10)])
def test_a_box_without_area_or_reversed_is_empty(box):
    with pytest.raises(UnusableImageError) as caught:
        crop_square(PHOTO, box=BoxPx(*box), margin=0.3)
    assert caught.value.reason == "box_empty"
    assert str(box) in caught.value.detail


def test_incident_D2_a_box_of_another_photo_is_refused_with_its_numbers():
    with pytest.raises(UnusableImageError) as caught:
        crop_square(PHOTO, box=BoxPx(400, 300, 460, 380), margin=0.3)
    assert caught.value.reason == "box_outside"
    assert "(400, 300, 460, 380) in a photo of 80 x 60 px" in caught.value.detail


WILD = st.integers() | st.sampled_from([-(10**9), 10**9, 2**31, 2**63, -(2**63), 10**30])


@given(st.tuples(WILD, WILD, WILD, WILD), st.floats(0, 1))
@example((-(10**9), -(10**9), 10**9, 10**9), 1.0)
@example((0, 0, 10**9, 10**9), 0.3)
def test_a_wild_box_gives_a_square_or_a_reason(edges, margin):
    result = square_or_reason(BoxPx(*edges), margin=margin)
    # A box of which half is inside has at most the photo's double side, and thrice that with margin.
    assert result in REASONS or 0 < result[0] == result[1] <= 3 * 2 * 80


def test_a_square_that_would_be_a_bomb_is_too_large():
    strip = np.zeros((1, 20_000, 3), np.uint8)
    with pytest.raises(UnusableImageError) as caught:
        crop_square(strip, box=BoxPx(0, 0, 20_000, 1), margin=0)
    assert caught.value.reason == "image_too_large"
    assert "20000 x 20000 px" in caught.value.detail
    assert crop_square(strip, box=BoxPx(0, 0, 100, 1), margin=0).shape == (100, 100, 3)


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
    assert in_pixels(BoxShare(*shares), width=80, height=60) == BoxPx(*expected)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("share", [math.nan, math.inf, -math.inf, 1e308])
def test_a_share_that_is_no_finite_number_lies_outside(share, place):
    shares = [0.1, 0.1, 0.9, 0.9]
    shares[place] = share
    with pytest.raises(UnusableImageError) as caught:
        in_pixels(BoxShare(*shares), width=80, height=60)
    assert caught.value.reason == "box_outside"
    assert str(share) in caught.value.detail


@given(st.tuples(st.floats(), st.floats(), st.floats(), st.floats()))
@example((0.5, 0.5, 0.5001, 0.5001))
@example((0.0, 0.0, 1e9, 1e9))
def test_wild_shares_give_a_square_or_a_reason(shares):
    result = square_or_reason(BoxShare(*shares), margin=0.3)
    assert result in REASONS or 0 < result[0] == result[1]
