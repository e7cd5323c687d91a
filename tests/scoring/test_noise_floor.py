import numpy as np
import pytest

from stages.scoring.confidence import ece_floor
from stages.scoring.metrics import bin_of, expected_calibration_error, softmax

BINS = 15


def _floor(probabilities, *, copies=1):
    return ece_floor(probabilities, group=np.arange(len(probabilities)) // copies, bins=BINS)


def _hits_drawn_row_by_row(confidence, *, samples=4_000):
    """The oracle: the ECE of every sample of hits, each row drawn by itself."""
    random = np.random.default_rng(1)
    columns = np.eye(BINS)[bin_of(confidence, bins=BINS)]
    errors = [
        np.abs((confidence - (random.random(len(confidence)) < confidence)) @ columns).sum()
        for _ in range(samples)
    ]
    return np.array(errors) / len(confidence)


@pytest.mark.parametrize(("n", "sharpened"), [(1, 1), (20, 1), (282, 1), (282, 5), (1_500, 10)])
def test_floor_is_mean_and_percentile_of_hits_drawn_row_by_row(draw, n, sharpened):
    logits, _ = draw(n)
    probabilities = softmax(logits * sharpened)
    oracle = _hits_drawn_row_by_row(probabilities.max(axis=1))
    found = _floor(probabilities)
    assert found.mean == pytest.approx(oracle.mean(), rel=0.04)
    assert found.percentile_95 == pytest.approx(np.quantile(oracle, 0.95), rel=0.05)


@pytest.mark.parametrize(("n", "ece"), [(282, 0.07), (3_175, 0.021)])
def test_incident_N11_ece_of_a_calibrated_model_lies_at_its_floor(draw, n, ece):
    """As often above the percentile as it says, though its calibration is perfect."""
    errors, floors = [], []
    for seed in range(100):
        logits, targets = draw(n, seed=seed)
        probabilities = softmax(logits)
        errors.append(expected_calibration_error(probabilities, targets, bins=BINS))
        floors.append(_floor(probabilities))
    assert np.mean(errors) == pytest.approx(ece, rel=0.05)
    assert np.mean([one.mean for one in floors]) == pytest.approx(np.mean(errors), rel=0.05)
    above = sum(e > one.percentile_95 for e, one in zip(errors, floors, strict=True))
    assert 1 <= above <= 11


def test_reported_copies_of_a_row_do_not_lower_the_floor(draw):
    """They are right or wrong together: ten of each are no more evidence than one."""
    logits, _ = draw(200)
    once, tenfold = softmax(logits), softmax(np.repeat(logits, 10, axis=0))
    assert _floor(tenfold, copies=10).mean == pytest.approx(_floor(once).mean)
    assert _floor(tenfold).mean < 0.4 * _floor(once).mean


def test_sharpened_model_lies_above_the_floor_of_its_confidences(draw):
    logits, targets = draw(300)
    probabilities = softmax(logits * 2)
    error = expected_calibration_error(probabilities, targets, bins=BINS)
    assert error > 2 * _floor(probabilities).percentile_95


def test_certain_model_has_no_floor_and_equal_confidences_have_equal_ones(draw):
    certain = _floor(np.eye(7))
    assert (certain.mean, certain.percentile_95) == (0, 0)
    logits, _ = draw(50)
    assert _floor(softmax(logits)) == _floor(softmax(logits))
