from dataclasses import replace

import numpy as np
import pytest

from stages.runtime.seed import generator
from tools.sample.expressions import CLASSES, FORMS, Expression
from tools.sample.face import draw_face, face_box
from tools.sample.identity import BEARDS, STYLES, draw_identity
from tools.sample.pen import Pen, Pose

POSE = Pose(150, 150, 110)
SOMEONE = replace(draw_identity(generator(1, "who")), beard="none", glasses=False, style="short")
MOUTH = slice(150 + 30, 150 + 130), slice(150 - 60, 150 + 60)


def drawn(who, expression):
    canvas = np.full((300, 300, 3), 128, np.uint8)
    draw_face(Pen(canvas, POSE), who, expression=expression)
    return canvas.astype(int)


def test_each_class_looks_different_on_the_same_person():
    faces = [drawn(SOMEONE, FORMS[name][0]) for name in CLASSES]
    for place, face in enumerate(faces):
        others = faces[:place] + faces[place + 1 :]
        assert min((np.abs(face - other).max(axis=2) > 30).sum() for other in others) > 1500


def test_a_smile_lifts_the_corners_and_a_dropped_jaw_opens_the_mouth():
    rest, smile, gape = (
        (drawn(SOMEONE, face)[MOUTH].max(axis=2) < 60)
        for face in (Expression(), Expression(corner_pull=1), Expression(jaw_drop=1))
    )
    assert gape.sum() > 3 * rest.sum()

    def corner(dark):
        columns = np.nonzero(dark.any(axis=0))[0]
        return np.nonzero(dark[:, columns[0]])[0].mean()

    assert corner(smile) < corner(rest) - 12


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("beard", BEARDS)
def test_hair_and_beard_leave_the_eyes_free(style, beard):
    """The expression must be seen on everybody (brows are drawn over the hair)."""
    who = replace(SOMEONE, style=style, beard=beard)
    eyes = slice(150 - 42, 150), slice(150 - 62, 150 + 62)
    someone, somebody = (drawn(person, FORMS["Fear"][0])[eyes] for person in (SOMEONE, who))
    assert (someone == somebody).all()


def test_the_box_holds_eyes_and_chin():
    left, top, right, bottom = face_box(POSE)
    assert right - left == bottom - top
    assert top < 150 - 0.5 * 110
    assert bottom > 150 + 1.0 * 110
