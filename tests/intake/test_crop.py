import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.faces.decode import BoxPx, UnusableImageError
from stages.intake.crop import crop_square, crop_upright, visible_part

# Each pixel says where it is: row, column, 0.
PHOTO = np.dstack([*np.indices((60, 80)), np.zeros((60, 80))]).astype(np.uint8)
NOISE = np.random.default_rng(8).integers(0, 256, (90, 120, 3), np.uint8)
WILD = st.sampled_from([10**9, 2**31, 2**63, 10**30])
PLACE, SIZE = st.integers(-40, 90) | WILD | WILD.map(lambda n: -n), st.integers(1, 90) | WILD


@pytest.mark.parametrize(
    ("edges", "margin", "rows", "columns"),
    [
        ((10, 20, 30, 40), 0, slice(20, 40), slice(10, 30)),
        # The margin is a share of the longer side (20 * 1.6); the centre stays (35, 30).
        ((30, 20, 40, 40), 0.30, slice(14, 46), slice(19, 51)),
    ],
)
def test_a_square_around_the_centre_is_cut_out(edges, margin, rows, columns):
    face = crop_square(PHOTO, box=BoxPx(*edges), margin=margin)
    assert np.array_equal(face, PHOTO[rows, columns])


def test_beyond_the_edge_the_edge_is_repeated():
    face = crop_square(PHOTO, box=BoxPx(0, 0, 10, 10), margin=0.30)
    assert face.shape == (16, 16, 3)
    assert np.array_equal(face[3:, 3:], PHOTO[:13, :13])
    assert np.array_equal(face[0, 3:], PHOTO[0, :13])
    assert np.array_equal(face[:4, :4], np.broadcast_to(PHOTO[0, 0], (4, 4, 3)))
    flat = np.full((50, 50, 3), (10, 200, 90), np.uint8)
    turned = crop_upright(flat, box=BoxPx(-10, -10, 30, 30), margin=1.0, angle=20.0)
    assert (turned == (10, 200, 90)).all()


@given(PLACE, PLACE, st.tuples(SIZE, SIZE), st.floats(0, 1))
@example(-(10**9), -(10**9), (2 * 10**9, 2 * 10**9), 1.0)
def test_any_box_gives_a_square_or_a_reason(left, top, size, margin):
    box = BoxPx(left, top, left + size[0], top + size[1])
    inside = np.zeros((60, 80), bool)
    inside[max(top, 0) : max(box.bottom, 0), max(left, 0) : max(box.right, 0)] = True
    if 2 * inside.sum() < size[0] * size[1]:
        for crop in (crop_square, lambda *a, **k: crop_upright(*a, **k, angle=0.0)):
            with pytest.raises(UnusableImageError, match="box_outside"):
                crop(PHOTO, box=box, margin=margin)
        return
    face = crop_square(PHOTO, box=box, margin=margin)
    assert face.shape == (face.shape[0], face.shape[0], 3)
    assert abs(face.shape[0] - max(size) * (1 + 2 * margin)) <= 0.5
    shorter = min(inside.any(1).sum(), inside.any(0).sum())
    assert visible_part(PHOTO, box=box) == (shorter, inside.sum() == size[0] * size[1])
    assert np.array_equal(crop_upright(PHOTO, box=box, margin=margin, angle=0.0), face)


@pytest.mark.parametrize(
    ("edges", "reason", "detail"),
    [
        ((10, 10, 10, 20), "box_empty", "box (10, 10, 10, 20) has no area"),
        ((30, 30, 10, 10), "box_empty", "box (30, 30, 10, 10) has no area"),
        ((400, 300, 460, 380), "box_outside", "(400, 300, 460, 380) in a photo of 80 x 60 px"),
    ],
)
def test_incident_D2_a_box_of_another_photo_is_refused_with_its_numbers(edges, reason, detail):
    with pytest.raises(UnusableImageError, match=re.escape(detail)) as caught:
        crop_square(PHOTO, box=BoxPx(*edges), margin=0.3)
    assert caught.value.reason == reason


def test_a_square_that_would_be_a_bomb_is_too_large():
    strip = np.zeros((1, 20_000, 3), np.uint8)
    with pytest.raises(UnusableImageError, match="20000 x 20000 px") as caught:
        crop_square(strip, box=BoxPx(0, 0, 20_000, 1), margin=0)
    assert caught.value.reason == "image_too_large"
    assert crop_square(strip, box=BoxPx(0, 0, 100, 1), margin=0).shape == (100, 100, 3)


def test_a_quarter_turn_is_numpy_own():
    # Not an angle of eyes, but exact: a line that falls by 90 degrees becomes level.
    square = crop_square(NOISE, box=BoxPx(30, 20, 70, 60), margin=0.1)
    turned = crop_upright(NOISE, box=BoxPx(30, 20, 70, 60), margin=0.1, angle=90.0)
    assert np.abs(turned.astype(int) - np.rot90(square)).max() <= 1


def test_a_photo_that_is_wider_than_opencv_warps():
    photo = np.zeros((40, 40_000, 3), np.uint8)
    photo[:, 39_990:] = 255
    face = crop_upright(photo, box=BoxPx(39_960, 0, 40_000, 40), margin=0.0, angle=0.0)
    assert np.array_equal(face, photo[:, -40:])
    assert crop_upright(photo, box=BoxPx(39_960, 0, 40_000, 40), margin=0.0, angle=9.0).max() == 255
