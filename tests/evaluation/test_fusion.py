import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import comb

from stages.evaluation.fusion import fuse, search_weights, simplex_grid
from stages.evaluation.metrics import row_nll, softmax


def test_fuse_mixes_probabilities(draw):
    first, second = softmax(draw(40, seed=1)[0]), softmax(draw(40, seed=2)[0])
    assert fuse([first, second], (0.7, 0.3)) == pytest.approx(0.7 * first + 0.3 * second)
    assert fuse([first], (1.0,)) == pytest.approx(first)


@given(st.integers(1, 4), st.integers(1, 12))
def test_grid_is_the_whole_simplex_once(size, steps):
    grid = simplex_grid(size, steps=steps)
    assert grid.sum(axis=1) == pytest.approx(1)
    assert (grid >= 0).all()
    assert len(np.unique((grid * steps).round(), axis=0)) == len(grid)
    assert len(grid) == comb(steps + size - 1, size - 1)


def test_search_finds_the_least_nll_of_the_grid(draw):
    logits, targets = draw(400)
    random = np.random.default_rng(5)
    members = [softmax(logits + random.normal(scale=s, size=logits.shape)) for s in (0.5, 1.5)]
    found = search_weights(members, targets)
    by_hand = {k: row_nll(fuse(members, (k / 20, 1 - k / 20)), targets).mean() for k in range(21)}
    assert found[0] == pytest.approx(min(by_hand, key=by_hand.get) / 20)
    assert found[0] > found[1] > 0


def test_useless_teacher_gets_nothing(draw):
    logits, targets = draw(400)
    useless = np.full((400, 7), 1 / 7)
    weights = search_weights([useless, softmax(logits), useless], targets)
    assert weights == (0, 1, 0)
