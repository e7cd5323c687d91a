import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.scoring.confidence import risk_coverage
from stages.scoring.metrics import softmax


def _drawn(n, *, seed, levels=None):
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(scale=1.5, size=(n, 7)))
    if levels is not None:
        top = random.integers(levels, size=n) / levels * 0.5 + 0.4
        probabilities = np.column_stack([top, *[(1 - top) / 6] * 6])
    return probabilities, random.integers(7, size=n)


@given(st.integers(1, 400), st.integers(0, 5), st.sampled_from([None, 1, 3, 20]))
def test_each_point_is_the_error_of_the_rows_above_its_confidence(n, seed, levels):
    probabilities, targets = _drawn(n, seed=seed, levels=levels)
    table = risk_coverage(probabilities, targets)
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != targets
    for rows, risk in zip(table["rows"], table["risk"], strict=True):
        chosen = confidence >= np.sort(confidence)[::-1][rows - 1]
        assert chosen.sum() == rows
        assert risk == pytest.approx(wrong[chosen].mean())
    assert table["coverage"].iloc[-1] == 1
    assert len(table) <= 100


def test_order_of_rows_says_nothing():
    probabilities, targets = _drawn(200, seed=1, levels=4)
    order = np.random.default_rng(2).permutation(200)
    table = risk_coverage(probabilities, targets)
    assert table.equals(risk_coverage(probabilities[order], targets[order]))
    assert (table["risk_low"] <= table["risk"]).all()
    assert (table["risk"] <= table["risk_high"]).all()
