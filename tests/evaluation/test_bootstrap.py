import numpy as np
import pytest

from stages.evaluation.bootstrap import (
    INTERVAL_METRICS,
    draw_metrics,
    intervals,
    metrics_of,
    resample,
    row_sums,
)
from stages.evaluation.metrics import score, softmax


def _names(values):
    return [f"g{value}" for value in values]


def test_sums_over_rows_give_the_scores(draw):
    logits, targets = draw(300)
    probabilities = softmax(logits * 2)
    sums = row_sums(probabilities, targets, bins=15).sum(axis=0, keepdims=True)
    found, oracle = metrics_of(sums, classes=7), score(probabilities, targets, bins=15)
    assert {name: found[name][0] for name in INTERVAL_METRICS} == pytest.approx(
        {name: oracle[name] for name in INTERVAL_METRICS}
    )


def test_a_draw_is_the_score_of_the_drawn_rows(draw):
    logits, targets = draw(60)
    probabilities = softmax(logits * 2)
    groups = np.arange(60) // 3
    resamples = resample(_names(groups), samples=4, random=np.random.default_rng(1))
    found = draw_metrics(probabilities, targets, resamples=resamples, bins=15)
    for number, counts in enumerate(resamples.counts):
        rows = np.repeat(np.arange(60), counts[resamples.group])
        oracle = score(probabilities[rows], targets[rows], bins=15)
        assert {name: found[name][number] for name in INTERVAL_METRICS} == pytest.approx(
            {name: oracle[name] for name in INTERVAL_METRICS}
        )


def test_part_of_the_rows_sees_the_same_draws(draw):
    logits, targets = draw(60)
    probabilities, mask = softmax(logits), np.arange(60) % 4 == 0
    resamples = resample(_names(np.arange(60) // 3), samples=20, random=np.random.default_rng(1))
    part = resamples.only(mask)
    masked = row_sums(probabilities, targets, bins=5) * mask[:, None]
    assert part.totals(row_sums(probabilities[mask], targets[mask], bins=5)) == pytest.approx(
        resamples.totals(masked)
    )


def test_copies_of_a_row_do_not_narrow_the_interval(draw):
    logits, targets = draw(150)
    once = np.arange(150)
    tenfold = np.repeat(once, 10)

    def width(rows, groups):
        resamples = resample(_names(groups), samples=400, random=np.random.default_rng(1))
        found = intervals(softmax(logits)[rows], targets[rows], resamples=resamples, bins=15)
        return found["accuracy"][1] - found["accuracy"][0]

    assert width(tenfold, tenfold) == pytest.approx(width(once, once), rel=1e-9)
    assert width(tenfold, np.arange(1500)) < 0.5 * width(once, once)


# Of 60 samples, three standard deviations below the rates that `intervals` states: .95 of them for
# most metrics, .90 for the ECE of a model that is not calibrated.
@pytest.mark.parametrize(("sharpened", "least_ece"), [(1, 52), (2, 47)])
def test_interval_holds_the_truth_at_about_the_stated_rate(draw, sharpened, least_ece):
    logits, targets = draw(400_000, seed=99)
    truth = score(softmax(logits * sharpened), targets, bins=15)
    held = dict.fromkeys(INTERVAL_METRICS, 0)
    for seed in range(60):
        logits, targets = draw(400, seed=seed)
        resamples = resample(_names(range(400)), samples=200, random=np.random.default_rng(seed))
        found = intervals(softmax(logits * sharpened), targets, resamples=resamples, bins=15)
        for name, (low, high) in found.items():
            held[name] += low <= truth[name] <= high
    assert held["ece"] >= least_ece
    assert min(held["accuracy"], held["macro_f1"], held["nll"]) >= 52


def test_ece_interval_holds_its_estimate_and_is_never_negative(draw):
    logits, targets = draw(100)
    resamples = resample(_names(range(100)), samples=100, random=np.random.default_rng(1))
    low, high = intervals(softmax(logits), targets, resamples=resamples, bins=15)["ece"]
    assert 0 <= low <= score(softmax(logits), targets, bins=15)["ece"] <= high


def test_same_seed_same_draws():
    first, second = (
        resample(_names(range(9)), samples=5, random=np.random.default_rng(3)) for _ in range(2)
    )
    assert np.array_equal(first.counts, second.counts)
    assert (first.counts.sum(axis=1) == 9).all()
