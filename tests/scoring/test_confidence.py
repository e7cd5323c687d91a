import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from stages.scoring.confidence import ece_floor, risk_coverage, wilson_interval
from stages.scoring.metrics import bin_of, expected_calibration_error, softmax

BINS = 15


def _floor(probabilities, *, copies=1):
    return ece_floor(probabilities, group=np.arange(len(probabilities)) // copies, bins=BINS)


def _errors_drawn_row_by_row(confidence, *, samples=4_000):
    """The oracle: the ECE of every sample of hits, each row drawn by itself."""
    random = np.random.default_rng(1)
    columns = np.eye(BINS)[bin_of(confidence, bins=BINS)]
    errors = [
        np.abs((confidence - (random.random(len(confidence)) < confidence)) @ columns).sum()
        for _ in range(samples)
    ]
    return np.array(errors) / len(confidence)


@pytest.mark.parametrize(("n", "sharpened"), [(1, 1), (20, 1), (282, 5), (1_500, 10)])
def test_floor_is_mean_and_percentile_of_hits_drawn_row_by_row(draw, n, sharpened):
    logits, _ = draw(n)
    probabilities = softmax(logits * sharpened)
    oracle = _errors_drawn_row_by_row(probabilities.max(axis=1))
    floor = _floor(probabilities)
    assert floor.mean == pytest.approx(oracle.mean(), rel=0.04)
    assert floor.percentile_95 == pytest.approx(np.quantile(oracle, 0.95), rel=0.05)
    assert _floor(probabilities) == floor


@pytest.mark.parametrize(("n", "samples", "ece"), [(282, 100, 0.07), (3_175, 40, 0.021)])
def test_incident_N11_ece_of_a_calibrated_model_lies_at_its_floor(draw, n, samples, ece):
    """As often above the percentile as it says, though its calibration is perfect."""
    errors, floors = [], []
    for seed in range(samples):
        logits, targets = draw(n, seed=seed)
        probabilities = softmax(logits)
        errors.append(expected_calibration_error(probabilities, targets, bins=BINS))
        floors.append(_floor(probabilities))
    assert np.mean(errors) == pytest.approx(ece, rel=0.05)
    assert np.mean([floor.mean for floor in floors]) == pytest.approx(np.mean(errors), rel=0.05)
    above = sum(e > floor.percentile_95 for e, floor in zip(errors, floors, strict=True))
    assert 1 <= above <= 0.11 * samples


def test_reported_copies_of_a_row_do_not_lower_the_floor(draw):
    """They are right or wrong together: ten of each are no more evidence than one."""
    logits, _ = draw(200)
    once, tenfold = softmax(logits), softmax(np.repeat(logits, 10, axis=0))
    assert _floor(tenfold, copies=10).mean == pytest.approx(_floor(once).mean)
    assert _floor(tenfold).mean < 0.4 * _floor(once).mean


def test_interval_of_shares_is_scipys():
    successes, n = np.array([0, 1, 0, 7, 45, 500]), np.array([1, 1, 30, 9, 50, 1000])
    low, high = wilson_interval(successes, n)
    for place, (hits, trials) in enumerate(zip(successes, n, strict=True)):
        oracle = binomtest(int(hits), int(trials)).proportion_ci(method="wilson")
        assert (low[place], high[place]) == pytest.approx((oracle.low, oracle.high), abs=1e-6)


@given(st.integers(1, 400), st.integers(0, 5), st.sampled_from([None, 1, 3, 20]))
def test_each_point_is_the_error_of_the_rows_above_its_confidence(n, seed, levels):
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(scale=1.5, size=(n, 7)))
    targets = random.integers(7, size=n)
    if levels is not None:
        top = random.integers(levels, size=n) / levels * 0.5 + 0.4
        probabilities = np.column_stack([top, *[(1 - top) / 6] * 6])
    table = risk_coverage(probabilities, targets)
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != targets
    for rows, risk in zip(table["rows"], table["risk"], strict=True):
        chosen = confidence >= np.sort(confidence)[::-1][rows - 1]
        assert chosen.sum() == rows
        assert risk == pytest.approx(wrong[chosen].mean())
    assert table["risk"].between(table["risk_low"] - 1e-12, table["risk_high"] + 1e-12).all()
    assert table["coverage"].iloc[-1] == 1
    assert len(table) <= 100
    order = random.permutation(n)
    assert table.equals(risk_coverage(probabilities[order], targets[order]))
