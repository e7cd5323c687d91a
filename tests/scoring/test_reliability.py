import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.scoring.metrics import bin_of, expected_calibration_error, reliability_table, softmax


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(2, 20))
def test_every_confidence_falls_between_the_edges_of_its_bin(values, bins):
    confidence = np.array(values)
    edges = np.linspace(0, 1, bins + 1)
    position = bin_of(confidence, bins=bins)
    assert (edges[position] <= confidence).all()
    assert ((confidence < edges[position + 1]) | (confidence == 1)).all()


def test_confidence_at_an_edge_belongs_to_the_bin_that_it_begins():
    assert bin_of(np.array([0, 0.25, 0.5, 0.75, 1]), bins=4).tolist() == [0, 1, 2, 3, 3]


def test_table_holds_every_row_once_and_gives_the_ece(draw):
    logits, targets = draw(500)
    probabilities = softmax(logits * 2)
    table = reliability_table(probabilities, targets, bins=10)
    assert table["count"].sum() == 500
    filled = table[table["count"] > 0]
    by_hand = (filled["count"] / 500 * (filled["accuracy"] - filled["confidence"]).abs()).sum()
    assert expected_calibration_error(probabilities, targets, bins=10) == pytest.approx(by_hand)
    assert table[table["count"] == 0]["accuracy"].isna().all()


def test_ece_of_known_bins():
    # Two rows at confidence .9 of which one is right, two at .6 of which both are right.
    top = np.array([0.9, 0.9, 0.6, 0.6])
    probabilities = np.column_stack([top, 1 - top, *np.zeros((5, 4))])
    ece = expected_calibration_error(probabilities, np.array([0, 1, 0, 0]), bins=15)
    assert ece == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)


def test_calibrated_model_has_small_ece_and_a_sharpened_one_a_large_one(draw):
    logits, targets = draw(20_000)
    assert expected_calibration_error(softmax(logits), targets, bins=15) < 0.02
    assert expected_calibration_error(softmax(logits * 3), targets, bins=15) > 0.2
