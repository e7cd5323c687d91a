import numpy as np
import pytest
import torch
from scipy.stats import binom

from stages.scoring.bootstrap import resample
from stages.scoring.metrics import softmax
from stages.scoring.votes import kl_estimate, row_kl


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


def test_interval_holds_the_known_distance_at_the_stated_rate(draw):
    logits, _ = draw(200_000, seed=50)
    truth = row_kl(softmax(logits * 2), _votes(logits)).mean()
    held = 0
    for seed in range(60):
        logits, _ = draw(300, seed=seed)
        resamples = resample(
            [f"g{n}" for n in range(300)], samples=200, random=np.random.default_rng(seed)
        )
        shares = _votes(logits, seed=seed)
        low, high = kl_estimate(softmax(logits * 2), shares, resamples=resamples).interval
        held += low <= truth <= high
    assert held >= binom.ppf(0.001, 60, 0.95)
