import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.preprocessing.crop import crop_square, visible_px
from stages.preprocessing.errors import UnusableImageError

# Each pixel says where it is: row, column, 0.
PHOTO = np.dstack([*np.indices((60, 80)), np.zeros((60, 80))]).astype(np.uint8)


def test_a_square_box_without_margin_is_cut_out_as_it_is():
    face = crop_square(PHOTO, box=(10, 20, 30, 40), margin=0)
    assert np.array_equal(face, PHOTO[20:40, 10:30])


def test_the_margin_is_a_share_of_the_longer_side_on_every_side():
    face = crop_square(PHOTO, box=(30, 20, 40, 40), margin=0.30)
    assert face.shape == (32, 32, 3)  # 20 * 1.6
    assert np.array_equal(face, PHOTO[14:46, 19:51])  # the centre stays (35, 30)


def test_beyond_the_edge_the_edge_is_repeated():
    face = crop_square(PHOTO, box=(0, 0, 10, 10), margin=0.30)
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
    box = (left, top, left + size[0], top + size[1])
    inside = np.zeros((60, 80), bool)
    inside[max(top, 0) : max(box[3], 0), max(left, 0) : max(box[2], 0)] = True
    if 2 * inside.sum() < size[0] * size[1]:
        with pytest.raises(UnusableImageError, match="box_outside"):
            crop_square(PHOTO, box=box, margin=margin)
        return
    face = crop_square(PHOTO, box=box, margin=margin)
    assert face.shape == (face.shape[0], face.shape[0], 3)
    assert abs(face.shape[0] - max(size) * (1 + 2 * margin)) <= 0.5
    assert visible_px(PHOTO, box=box) == min(inside.any(1).sum(), inside.any(0).sum())


@pytest.mark.parametrize("box", [(10, 10, 10, 20), (10, 20, 20, 10)])
def test_a_box_without_area_is_empty(box):
    with pytest.raises(UnusableImageError) as caught:
        crop_square(PHOTO, box=box, margin=0.3)
    assert caught.value.reason == "box_empty"
    assert str(box) in caught.value.detail


def test_incident_D2_a_box_of_another_photo_is_refused_with_its_numbers():
    with pytest.raises(UnusableImageError) as caught:
        crop_square(PHOTO, box=(400, 300, 460, 380), margin=0.3)
    assert caught.value.reason == "box_outside"
    assert "(400, 300, 460, 380) in a photo of 80 x 60 px" in caught.value.detail
