import numpy as np
import pytest
import torch
from scipy.stats import binom

from stages.scoring import bootstrap
from stages.scoring.bootstrap import METRICS, estimates, kl_estimate, resample
from stages.scoring.confidence import ece_floor
from stages.scoring.metrics import row_kl, score, softmax

SAMPLES = 60


def _resamples(groups, *, samples, seed):
    names = [f"g{value}" for value in groups]
    return resample(names, samples=samples, random=np.random.default_rng(seed))


def _estimates(logits, targets, groups, *, samples=200, seed=1):
    resamples = _resamples(groups, samples=samples, seed=seed)
    named = logits.argmax(axis=1)
    drawn = bootstrap.draw(softmax(logits), targets, named=named, resamples=resamples, bins=15)
    floor = ece_floor(softmax(logits), group=resamples.group, bins=15)
    return estimates(drawn, floor=floor)


def _votes(logits, *, seed=1):
    return np.random.default_rng(seed).multinomial(10, softmax(logits)) / 10


def test_a_draw_is_the_score_of_the_drawn_rows(draw):
    logits, targets = draw(60)
    probabilities = softmax(logits * 2)
    resamples = _resamples(np.arange(60) // 3, samples=4, seed=1)
    named = logits.argmax(axis=1)
    drawn = bootstrap.draw(probabilities, targets, named=named, resamples=resamples, bins=15)
    taken = [np.repeat(np.arange(60), counts[resamples.group]) for counts in resamples.counts]
    cases = [(drawn.metrics, 0, np.arange(60))]
    cases += [(drawn.draws, number, rows) for number, rows in enumerate(taken)]
    for metrics, number, rows in cases:
        oracle = score(probabilities[rows], targets[rows], bins=15)
        for name in METRICS:
            assert metrics[name][number] == pytest.approx(oracle[name]), name
        assert metrics["f1_of_class"][number] == pytest.approx(list(oracle["f1"].values()))


def test_part_of_the_rows_sees_the_same_draws(draw):
    logits, _ = draw(60)
    mask = np.arange(60) % 4 == 0
    resamples = _resamples(np.arange(60) // 3, samples=20, seed=1)
    assert (resamples.counts.sum(axis=1) == 20).all()
    part = resamples.only(mask).totals(logits[mask])
    assert part == pytest.approx(resamples.totals(logits * mask[:, None]))


def test_copies_of_a_row_do_not_narrow_the_interval(draw):
    logits, targets = draw(150)
    once = np.arange(150)
    tenfold = np.repeat(once, 10)

    def width(rows, groups):
        low, high = _estimates(logits[rows], targets[rows], groups)["accuracy"].interval
        return high - low

    assert width(tenfold, tenfold) == pytest.approx(width(once, once), rel=1e-9)
    assert width(tenfold, np.arange(1500)) < 0.5 * width(once, once)


# Below the quantile .001 of what 60 samples hold: at the stated .95 for most metrics, at .85 for the
# calibration error of a model that is not calibrated.
@pytest.mark.parametrize(("sharpened", "ece_rate"), [(1, 0.95), (2, 0.85)])
def test_intervals_hold_the_known_truth_at_the_stated_rate(draw, sharpened, ece_rate):
    logits, targets = draw(400_000, seed=99)
    truth = score(softmax(logits * sharpened), targets, bins=15)
    held = dict.fromkeys(METRICS, 0)
    for seed in range(SAMPLES):
        logits, targets = draw(400, seed=seed)
        made = _estimates(logits * sharpened, targets, range(400), seed=seed)
        for name, estimate in made.items():
            held[name] += estimate.interval[0] <= truth[name] <= estimate.interval[1]
        ece = made["ece"]
        assert 0 <= ece.interval[0] <= ece.value <= ece.interval[1]
    for name, count in held.items():
        rate = ece_rate if name == "ece" else 0.95
        assert count >= binom.ppf(0.001, SAMPLES, rate), (name, held)


@pytest.mark.parametrize("right", [True, False])
def test_rows_that_are_all_right_or_all_wrong_have_the_interval_of_their_groups(right):
    targets = np.arange(40) % 7
    logits = 5 * np.eye(7)[targets if right else (targets + 1) % 7]
    low, high = _estimates(logits, targets, np.arange(40) // 2)["accuracy"].interval
    # Wilson's interval of 20 rows: z^2 / (n + z^2).
    width = 1.959964**2 / (20 + 1.959964**2)
    assert (low, high) == pytest.approx((1 - width, 1) if right else (0, width))


def test_kl_is_that_of_torch(draw):
    logits, _ = draw(50)
    probabilities, shares = softmax(logits * 2), _votes(logits)
    oracle = torch.nn.functional.kl_div(
        torch.from_numpy(np.log(probabilities)), torch.from_numpy(shares), reduction="none"
    )
    assert row_kl(probabilities, shares) == pytest.approx(oracle.sum(dim=1).numpy())
    assert row_kl(probabilities, probabilities) == pytest.approx(0, abs=1e-12)


def test_interval_holds_the_known_distance_to_votes_at_the_stated_rate(draw):
    logits, _ = draw(200_000, seed=50)
    truth = row_kl(softmax(logits * 2), _votes(logits)).mean()
    held = 0
    for seed in range(SAMPLES):
        logits, _ = draw(300, seed=seed)
        resamples = _resamples(range(300), samples=200, seed=seed)
        shares = _votes(logits, seed=seed)
        low, high = kl_estimate(softmax(logits * 2), shares, resamples=resamples).interval
        held += low <= truth <= high
    assert held >= binom.ppf(0.001, SAMPLES, 0.95)
