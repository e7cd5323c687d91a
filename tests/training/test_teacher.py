"""What an evaluation during training says of a model."""

import numpy as np
import pytest

from stages.scoring.metrics import softmax
from stages.training.teacher import score_evaluation


def test_an_evaluation_says_what_a_temperature_would_mend() -> None:
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(3000, 7))
    targets = (softmax(logits).cumsum(axis=1) < rng.random((3000, 1))).sum(axis=1)
    scores = score_evaluation(3 * logits, targets)
    assert scores["temperature"] == pytest.approx(3, rel=0.1)
    assert scores["scaled_nll"] < scores["nll"]
    assert scores["scaled_ece"] < 0.03 < 0.1 < scores["ece"]
    perfect = score_evaluation(logits, logits.argmax(axis=1))
    assert perfect["temperature"] is None
    assert [perfect["scaled_nll"], perfect["scaled_ece"]] == [perfect["nll"], perfect["ece"]]
