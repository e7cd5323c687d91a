from itertools import combinations

import pytest

from stages.runtime.seed import generator
from tools.sample.crowd import Mood
from tools.sample.portrait import PHOTO_PX, Framing, draw_no_face, draw_photo, draw_portrait

MOOD = Mood("Happy", "Neutral", 0.1, 1.0)
FRAMING = Framing(side_px=48, factor=4, span=(2.3, 2.6), turn=0.8, max_blur=1, max_noise=5)


def test_a_portrait_has_its_size_and_repeats():
    first, again, other = (
        draw_portrait(MOOD, framing=FRAMING, rng=generator(seed, "portrait")) for seed in (1, 1, 2)
    )
    assert first.shape == draw_no_face(FRAMING, rng=generator(1, "none")).shape == (48, 48, 3)
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("num_faces", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_faces_of_a_photo_lie_in_it_and_apart(num_faces, seed):
    image, boxes = draw_photo([MOOD] * num_faces, rng=generator(seed, "photo"))
    assert image.shape == (*PHOTO_PX, 3)
    assert len(boxes) == num_faces
    for box in boxes:
        assert 0 <= box.left < box.right <= PHOTO_PX[1]
        assert 0 <= box.top < box.bottom <= PHOTO_PX[0]
        assert box.right - box.left >= 20
    for a, b in combinations(boxes, 2):
        assert a.right <= b.left or b.right <= a.left
