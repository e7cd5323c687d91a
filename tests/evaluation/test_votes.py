import numpy as np
import pytest
import torch
from scipy.stats import binom

from stages.evaluation.bootstrap import resample
from stages.evaluation.metrics import softmax
from stages.evaluation.reliability import expected_calibration_error
from stages.evaluation.temperature import one_hot
from stages.evaluation.votes import row_kl, soft_ece, vote_estimates


def _votes(logits, *, seed=1):
    return np.random.default_rng(seed).multinomial(10, softmax(logits)) / 10


def test_kl_is_that_of_torch(draw):
    logits, _ = draw(50)
    probabilities, shares = softmax(logits * 2), _votes(logits)
    oracle = torch.nn.functional.kl_div(
        torch.from_numpy(np.log(probabilities)), torch.from_numpy(shares), reduction="none"
    )
    assert row_kl(probabilities, shares) == pytest.approx(oracle.sum(dim=1).numpy())
    assert row_kl(probabilities, probabilities) == pytest.approx(0, abs=1e-12)


def test_soft_ece_of_a_crowd_of_one_is_the_ece(draw):
    logits, targets = draw(300)
    probabilities = softmax(logits * 2)
    hard = expected_calibration_error(probabilities, targets, bins=15)
    assert soft_ece(probabilities, one_hot(targets), bins=15) == pytest.approx(hard)


def test_soft_ece_of_known_bins():
    probabilities = np.array([[0.9, 0.1, 0, 0, 0, 0, 0], [0.9, 0, 0.1, 0, 0, 0, 0]])
    shares = np.array([[0.6, 0.4, 0, 0, 0, 0, 0], [0.8, 0.2, 0, 0, 0, 0, 0]])
    assert soft_ece(probabilities, shares, bins=15) == pytest.approx(0.2)


def test_intervals_hold_the_known_distance_at_the_stated_rate(draw):
    logits, _ = draw(200_000, seed=50)
    truth = vote_truth(logits)
    held = {"kl": 0, "soft_ece": 0}
    for seed in range(60):
        logits, _ = draw(300, seed=seed)
        resamples = resample(
            [f"g{n}" for n in range(300)], samples=200, random=np.random.default_rng(seed)
        )
        found = vote_estimates(
            softmax(logits * 2), _votes(logits, seed=seed), resamples=resamples, bins=15
        )
        for name, estimate in found.items():
            held[name] += estimate.interval[0] <= truth[name] <= estimate.interval[1]
    assert held["kl"] >= binom.ppf(0.001, 60, 0.95)
    assert held["soft_ece"] >= binom.ppf(0.001, 60, 0.85)


def vote_truth(logits):
    probabilities, shares = softmax(logits * 2), _votes(logits)
    return {
        "kl": row_kl(probabilities, shares).mean(),
        "soft_ece": soft_ece(probabilities, shares, bins=15),
    }
