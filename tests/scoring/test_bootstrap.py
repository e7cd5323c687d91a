import numpy as np
import pytest
from scipy.stats import binom

from stages.scoring import bootstrap
from stages.scoring.bootstrap import (
    METRICS,
    estimates,
    mean_interval,
    metrics_of,
    resample,
    row_sums,
)
from stages.scoring.confidence import ece_floor
from stages.scoring.metrics import score, softmax

SAMPLES = 60


def _names(values):
    return [f"g{value}" for value in values]


def _estimates(logits, targets, groups, *, samples=200, seed=1):
    resamples = resample(_names(groups), samples=samples, random=np.random.default_rng(seed))
    drawn = bootstrap.draw(softmax(logits), targets, resamples=resamples, bins=15)
    floor = ece_floor(softmax(logits), group=resamples.group, bins=15)
    return estimates(drawn, floor=floor)


def test_a_draw_is_the_score_of_the_drawn_rows(draw):
    logits, targets = draw(60)
    probabilities = softmax(logits * 2)
    groups = np.arange(60) // 3
    resamples = resample(_names(groups), samples=4, random=np.random.default_rng(1))
    found = bootstrap.draw(probabilities, targets, resamples=resamples, bins=15).draws
    for number, counts in enumerate(resamples.counts):
        rows = np.repeat(np.arange(60), counts[resamples.group])
        oracle = score(probabilities[rows], targets[rows], bins=15)
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece"):
            assert found[name][number] == pytest.approx(oracle[name]), name
        assert found["f1_of_class"][number] == pytest.approx(list(oracle["f1"].values()))


def test_part_of_the_rows_sees_the_same_draws(draw):
    logits, targets = draw(60)
    probabilities, mask = softmax(logits), np.arange(60) % 4 == 0
    resamples = resample(_names(np.arange(60) // 3), samples=20, random=np.random.default_rng(1))
    values = probabilities * targets[:, None]
    part = resamples.only(mask).totals(values[mask])
    assert part == pytest.approx(resamples.totals(values * mask[:, None]))


def test_copies_of_a_row_do_not_narrow_the_interval(draw):
    logits, targets = draw(150)
    once = np.arange(150)
    tenfold = np.repeat(once, 10)

    def width(rows, groups):
        found = _estimates(logits[rows], targets[rows], groups, samples=400)
        low, high = found["accuracy"].interval
        return high - low

    assert width(tenfold, tenfold) == pytest.approx(width(once, once), rel=1e-9)
    assert width(tenfold, np.arange(1500)) < 0.5 * width(once, once)


# Below the quantile .001 of what 60 samples hold: at the stated .95 for most metrics, at .85 for the
# calibration error of a model that is not calibrated.
@pytest.mark.parametrize(("sharpened", "ece_rate"), [(1, 0.95), (1.3, 0.85), (2, 0.85)])
def test_intervals_hold_the_known_truth_at_the_stated_rate(draw, sharpened, ece_rate):
    logits, targets = draw(400_000, seed=99)
    sums = row_sums(softmax(logits * sharpened), targets, bins=15).sum(axis=0, keepdims=True)
    truth = metrics_of(sums, classes=7)
    held = dict.fromkeys(METRICS, 0)
    for seed in range(SAMPLES):
        logits, targets = draw(400, seed=seed)
        found = _estimates(logits * sharpened, targets, range(400), seed=seed)
        for name, estimate in found.items():
            held[name] += estimate.interval[0] <= truth[name][0] <= estimate.interval[1]
    for name, count in held.items():
        rate = ece_rate if name == "ece" else 0.95
        assert count >= binom.ppf(0.001, SAMPLES, rate), (name, held)


def test_ece_interval_holds_its_estimate_and_is_never_negative(draw):
    logits, targets = draw(100)
    error = _estimates(logits, targets, range(100))["ece"]
    assert 0 <= error.interval[0] <= error.value <= error.interval[1]


def test_interval_of_a_mean_is_about_two_standard_errors():
    values = np.random.default_rng(0).normal(size=900)
    resamples = resample(_names(range(900)), samples=2000, random=np.random.default_rng(1))
    low, high = mean_interval(values, resamples=resamples)
    error = values.std() / 30
    assert (low, high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.2 * error
    )


def test_same_seed_same_draws():
    first, second = (
        resample(_names(range(9)), samples=5, random=np.random.default_rng(3)) for _ in range(2)
    )
    assert np.array_equal(first.counts, second.counts)
    assert (first.counts.sum(axis=1) == 9).all()
