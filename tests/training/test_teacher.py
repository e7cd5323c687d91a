"""What an evaluation during training says of a model."""

import numpy as np
import pytest

from stages.scoring.metrics import softmax
from stages.training.teacher import score_evaluation


def test_an_evaluation_says_what_a_temperature_would_mend() -> None:
    rng = np.random.default_rng(0)
    calibrated = 2 * rng.normal(size=(3000, 7))
    targets = (softmax(calibrated).cumsum(axis=1) < rng.random((3000, 1))).sum(axis=1)
    right, scores = score_evaluation(calibrated, targets), score_evaluation(3 * calibrated, targets)
    assert right["temperature"] == pytest.approx(1, abs=0.1)
    assert scores["temperature"] == pytest.approx(3 * right["temperature"])
    assert scores["scaled_nll"] == pytest.approx(right["scaled_nll"])
    assert scores["scaled_nll"] < scores["nll"]
    assert scores["scaled_ece"] < 0.03 < 0.1 < scores["ece"]
    assert right["brier"] < scores["brier"]
    perfect = score_evaluation(calibrated, calibrated.argmax(axis=1))
    assert perfect["temperature"] is None
    assert [perfect[f"scaled_{name}"] for name in ("nll", "ece")] == [
        perfect["nll"],
        perfect["ece"],
    ]
