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
from stages.sources import rafdb, rows
from stages.sources.ferplus import VOTE_COLUMNS
from tools.sample.crowd import (
    ANSWERS,
    Mood,
    crowd_shares,
    draw_mood,
    draw_votes,
    name_class,
)
from tools.sample.expressions import FORMS
from tools.sample.face import draw_face
from tools.sample.identity import BEARDS, STYLES, draw_identity
from tools.sample.layouts import EXPW_CODES, FERPLUS_COLUMNS, RAFDB_CODES
from tools.sample.pen import Pen, Pose
from tools.sample.scene import add_noise, reduce, soften, to_grey

SOMEONE = replace(draw_identity(generator(1, "who")), beard="none", glasses=False, style="short")


def test_classes_and_codes_are_those_that_the_adapters_read():
    assert {str(code): name for name, code in RAFDB_CODES.items()} == rafdb.CODES["rafdb_basic"]
    assert {str(code): name for name, code in EXPW_CODES.items()} == rows.FER2013_CODES
    starts = [column[:3].lower() for column in VOTE_COLUMNS]
    assert starts == ["neu", "hap", "sur", "sad", "ang", "dis", "fea", "con", "unk", "nf"]
    assert [answer[:3].lower() for answer in FERPLUS_COLUMNS] == starts


# --- faces ---------------------------------------------------------------------------------------


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


# --- the crowd -----------------------------------------------------------------------------------


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
    strong = crowd_shares(Mood("Sad", "Fear", 0.0, 1.0))
    assert weak[ANSWERS.index("Neutral")] > strong[ANSWERS.index("Neutral")] + 0.1
    votes = draw_votes(weak, voters=200_000, rng=generator(3, "votes"))
    np.testing.assert_allclose(votes / 200_000, weak, atol=0.005)


def test_many_people_name_a_clear_face_rightly_and_few_err_on_a_torn_one():
    rng = generator(5, "names")
    clear, torn = Mood("Happy", "Neutral", 0.05, 1.0), Mood("Happy", "Surprise", 0.45, 1.0)
    assert {name_class(clear, voters=40, rng=rng) for _ in range(50)} == {"Happy"}
    assert {"Happy", "Surprise"} <= {name_class(torn, voters=1, rng=rng) for _ in range(50)}


# --- pixels --------------------------------------------------------------------------------------


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


def test_noise_has_its_strength_and_no_colour():
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = add_noise(grey, strength=12, rng=generator(2, "noise")).astype(int) - 128
    assert np.ptp(noise, axis=2).max() == 0
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(12 / np.sqrt(6), rel=0.05)
