"""What is drawn of faces: boxes with labels, and the sheet."""

import re

import cv2
import numpy as np
import pytest

from stages.faces.decode import BoxPx
from tools.predictions import FaceSample, NamedFace, annotate


@pytest.mark.parametrize("side", [24, 300, 4000])
def test_labels_are_whole_wherever_the_face_is_and_large_enough(side):
    photo = np.full((side, side, 3), 127, np.uint8)
    ink = []
    size = side // 12
    for x in (0, side // 3, side - size):
        for y in (0, side // 3, side - size):
            box = BoxPx(x, y, x + size, y + size)
            face = NamedFace(box, photo, "Surprise", np.full(7, 1 / 7, np.float32))
            ink.append((annotate(photo, [face]) < 30).all(axis=2))
    assert (photo == 127).all()
    assert min(map(np.sum, ink)) > 0.99 * max(map(np.sum, ink))
    assert all(np.ptp(np.flatnonzero(mask.any(axis=1))) >= max(10, side / 140) for mask in ink)


def test_the_sheet_shows_a_sample_that_is_the_same_on_every_run():
    drawn = []
    for _ in range(2):
        sample = FaceSample()
        for number in range(200):
            image = np.full((20, 20, 3), number, np.uint8)
            probabilities = np.eye(7, dtype=np.float32)[3]
            sample.add(NamedFace(BoxPx(0, 0, 1, 1), image, "Happy", probabilities), caption="x")
        drawn.append(sample.draw())
    assert drawn[0] == drawn[1]
    sheet = cv2.imdecode(np.frombuffer(drawn[0], np.uint8), cv2.IMREAD_COLOR)
    greys, counts = np.unique(sheet[:, :, 0], return_counts=True)
    shown = greys[counts >= 90 * 90]
    assert re.fullmatch("2[4-6]", str(len(shown)))
    assert np.ptp(shown[shown < 200]) > 100
