import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics.classification

from stages.config import CLASSES
from stages.scoring.metrics import row_nll, score, softmax


def test_scores_agree_with_torchmetrics_and_sklearn(draw):
    logits, targets = draw(700)
    probabilities = softmax(logits * 3)
    found = score(probabilities, targets, bins=15)
    tensors = torch.from_numpy(probabilities), torch.from_numpy(targets)

    f1 = torchmetrics.classification.MulticlassF1Score(7, average="none")(*tensors)
    assert list(found["f1"].values()) == pytest.approx(f1.tolist(), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(float(f1.mean()), abs=1e-6)
    ece = torchmetrics.classification.MulticlassCalibrationError(7, n_bins=15, norm="l1")(*tensors)
    assert found["ece"] == pytest.approx(float(ece), abs=1e-6)
    predicted = probabilities.argmax(axis=1)
    assert found["accuracy"] == sklearn.metrics.accuracy_score(targets, predicted)
    assert found["balanced_accuracy"] == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(targets, predicted)
    )
    assert found["nll"] == pytest.approx(sklearn.metrics.log_loss(targets, probabilities))
    brier = sklearn.metrics.brier_score_loss(targets, probabilities, scale_by_half=False)
    assert found["brier"] == pytest.approx(brier)


def test_class_without_rows_counts_as_zero_in_f1_and_not_at_all_in_balanced_accuracy():
    probabilities = np.eye(7)[[0, 0, 1]]
    found = score(probabilities, np.array([0, 0, 1]), bins=15)
    assert found["balanced_accuracy"] == 1
    assert found["f1"] == dict(zip(CLASSES, [1, 1, 0, 0, 0, 0, 0], strict=True))
    assert found["macro_f1"] == pytest.approx(2 / 7)


def test_incident_N8_every_promised_metric_is_written(draw):
    logits, targets = draw(20)
    assert set(score(softmax(logits), targets, bins=15)) == {
        "accuracy", "balanced_accuracy", "macro_f1", "f1", "nll", "brier", "ece",
    }  # fmt: skip


def test_softmax_and_nll_stay_finite_at_extreme_logits():
    probabilities = softmax(np.array([[2000.0, 0, 0, 0, 0, 0, 0]]))
    assert probabilities[0].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert np.isfinite(row_nll(probabilities, np.array([3]))).all()
