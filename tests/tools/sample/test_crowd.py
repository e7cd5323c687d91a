import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.seed import generator
from tools.sample.crowd import (
    ANSWERS,
    Mood,
    crowd_shares,
    draw_clear_votes,
    draw_mood,
    draw_votes,
    name_class,
)
from tools.sample.expressions import CLASSES

MAINS = st.sampled_from(CLASSES)


@given(MAINS, st.integers(0, 50))
def test_a_mood_is_mainly_of_its_class(main, seed):
    mood = draw_mood(main, rng=generator(seed, "test"))
    shares = crowd_shares(mood)
    assert shares.sum() == pytest.approx(1)
    assert mood.other != main
    assert shares[ANSWERS.index(main)] >= shares[ANSWERS.index(mood.other)] - 0.13  # weak: Neutral


def test_the_more_of_the_other_class_the_more_votes_for_it():
    shares = [crowd_shares(Mood("Fear", "Surprise", s, 1.0)) for s in np.linspace(0, 0.5, 9)]
    other = [share[ANSWERS.index("Surprise")] for share in shares]
    assert (np.diff(other) > 0).all()
    assert other[-1] == pytest.approx(shares[-1][ANSWERS.index("Fear")])


def test_weak_expressions_are_taken_for_neutral():
    strong, weak = (crowd_shares(Mood("Sad", "Fear", 0.0, at)) for at in (1.0, 0.75))
    neutral = ANSWERS.index("Neutral")
    assert weak[neutral] > strong[neutral] + 0.1


def test_votes_follow_the_shares():
    shares = crowd_shares(Mood("Angry", "Disgust", 0.3, 0.9))
    votes = draw_votes(shares, voters=200_000, rng=generator(3, "votes"))
    assert votes.sum() == 200_000
    np.testing.assert_allclose(votes / 200_000, shares, atol=0.005)


@given(st.sampled_from(ANSWERS), st.integers(0, 30))
def test_clear_votes_have_their_winner(winner, seed):
    votes = draw_clear_votes(winner, rng=generator(seed, "clear"))
    assert votes.sum() == 10
    assert votes[ANSWERS.index(winner)] >= 7


def test_many_people_name_a_clear_face_rightly_and_few_err_on_a_torn_one():
    rng = generator(5, "names")
    clear, torn = Mood("Happy", "Neutral", 0.05, 1.0), Mood("Happy", "Surprise", 0.45, 1.0)
    assert {name_class(clear, voters=40, rng=rng) for _ in range(50)} == {"Happy"}
    assert {"Happy", "Surprise"} <= {name_class(torn, voters=1, rng=rng) for _ in range(50)}
