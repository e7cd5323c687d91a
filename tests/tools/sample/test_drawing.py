"""What the drawn faces promise: classes that can be told apart, a crowd that votes on them, pixels.

That people, poses and files repeat to the byte is held by the fresh drawing in test_sample.py.
"""

from dataclasses import astuple, replace
from functools import partial
from itertools import combinations, product

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.config import CLASSES
from stages.runtime.seed import generator
from tools.sample.face import draw_face
from tools.sample.moods import ANSWERS, FORMS, Mood, crowd_shares, draw_mood, draw_votes
from tools.sample.pen import Pen, Pose
from tools.sample.person import BEARDS, STYLES, draw_identity
from tools.sample.pictures import reduce, soften, to_grey

SOMEONE = replace(draw_identity(generator(1, "who")), beard="none", glasses=False, style="short")


def drawn(person, expression):
    canvas = np.full((300, 300, 3), 128, np.uint8)
    draw_face(Pen(canvas, Pose(150, 150, 110)), person, expression=expression)
    return canvas.astype(int)


def test_any_two_classes_differ_clearly():
    """By more than their own two forms do, and on the same person by 1,500 pixels."""
    faces = {name: drawn(SOMEONE, FORMS[name][0]) for name in CLASSES}
    forms = {name: np.array([astuple(form) for form in FORMS[name]]) for name in CLASSES}
    for first, second in combinations(CLASSES, 2):
        strengths = np.abs(forms[first][:, None] - forms[second][None]).sum(axis=2)
        assert strengths.min() > 1.2, (first, second)
        differing = np.abs(faces[first] - faces[second]).max(axis=2) > 30
        assert differing.sum() > 1500, (first, second)


def test_hair_and_beard_leave_the_eyes_free():
    """The expression must be seen on everybody (brows are drawn over the hair)."""
    eyes = slice(150 - 42, 150), slice(150 - 62, 150 + 62)
    expected = drawn(SOMEONE, FORMS["Fear"][0])[eyes]
    for style, beard in product(STYLES, BEARDS):
        person = replace(SOMEONE, style=style, beard=beard)
        assert (drawn(person, FORMS["Fear"][0])[eyes] == expected).all(), person


@given(st.sampled_from(CLASSES), st.integers(0, 50))
def test_a_mood_is_mainly_of_its_class(main, seed):
    mood = draw_mood(main, rng=generator(seed, "test"))
    shares = crowd_shares(mood)
    assert shares.sum() == pytest.approx(1)
    assert mood.other != main
    assert shares[ANSWERS.index(main)] >= shares[ANSWERS.index(mood.other)] - 0.13  # weak: Neutral


def test_shares_follow_the_mood_and_votes_follow_the_shares():
    shares = [crowd_shares(Mood("Fear", "Surprise", s, 1.0)) for s in np.linspace(0, 0.5, 9)]
    other = [share[ANSWERS.index("Surprise")] for share in shares]
    assert (np.diff(other) > 0).all()
    assert other[-1] == pytest.approx(shares[-1][ANSWERS.index("Fear")])
    weak = crowd_shares(Mood("Sad", "Fear", 0.0, 0.75))
    votes = draw_votes(weak, voters=200_000, rng=generator(3, "votes"))
    np.testing.assert_allclose(votes / 200_000, weak, atol=0.005)


@pytest.mark.parametrize(
    ("ours", "opencv"),
    [
        (
            partial(reduce, factor=4),
            lambda p: cv2.resize(p, (15, 12), interpolation=cv2.INTER_AREA),
        ),
        (
            partial(soften, passes=1),
            lambda p: cv2.GaussianBlur(p, (3, 3), 0, borderType=cv2.BORDER_REPLICATE),
        ),
        (to_grey, lambda p: cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)),
    ],
)
def test_integer_arithmetic_gives_the_pixels_of_opencv(ours, opencv):
    picture = generator(1, "scene").integers(0, 256, (48, 60, 3)).astype(np.uint8)
    assert np.abs(ours(picture).astype(int) - opencv(picture).astype(int)).max() <= 1
