import numpy as np
import pytest
import torch
import torchmetrics.classification
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from stages.config import CLASSES
from stages.scoring.metrics import (
    bin_of,
    row_nll,
    score,
    softmax,
)


def test_incident_N8_every_promised_metric_is_written(draw):
    """And agrees with that of torchmetrics or scikit-learn."""
    logits, targets = draw(700)
    probabilities = softmax(logits * 3)
    scores = score(probabilities, targets, bins=15)
    tensors = torch.from_numpy(probabilities), torch.from_numpy(targets)
    f1 = torchmetrics.classification.MulticlassF1Score(7, average="none")(*tensors)
    ece = torchmetrics.classification.MulticlassCalibrationError(7, n_bins=15, norm="l1")(*tensors)
    predicted = probabilities.argmax(axis=1)
    by_class = scores.pop("f1")
    assert list(by_class) == list(CLASSES)
    assert list(by_class.values()) == pytest.approx(f1.tolist(), abs=1e-6)
    assert scores == {
        name: pytest.approx(float(value), abs=1e-6)
        for name, value in {
            "accuracy": oracle.accuracy_score(targets, predicted),
            "balanced_accuracy": oracle.balanced_accuracy_score(targets, predicted),
            "macro_f1": f1.mean(),
            "nll": oracle.log_loss(targets, probabilities),
            "brier": oracle.brier_score_loss(targets, probabilities, scale_by_half=False),
            "ece": ece,
        }.items()
    }


def test_class_without_rows_counts_as_zero_in_f1_and_not_at_all_in_balanced_accuracy():
    scores = score(np.eye(7)[[0, 0, 1]], np.array([0, 0, 1]), bins=15)
    assert scores["balanced_accuracy"] == 1
    assert list(scores["f1"].values()) == [1, 1, 0, 0, 0, 0, 0]
    assert scores["macro_f1"] == pytest.approx(2 / 7)


def test_softmax_and_nll_stay_finite_at_extreme_logits():
    probabilities = softmax(np.array([[2000.0, 0, 0, 0, 0, 0, 0]]))
    assert probabilities[0].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert np.isfinite(row_nll(probabilities, np.array([3]))).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(2, 20))
def test_every_confidence_falls_between_the_edges_of_its_bin(values, bins):
    edges = np.linspace(0, 1, bins + 1)
    confidence = np.array([*values, *edges])
    position = bin_of(confidence, bins=bins)
    assert (edges[position] <= confidence).all()
    # An edge belongs to the bin that it begins, 1 to the last bin.
    assert ((confidence < edges[position + 1]) | (confidence == 1)).all()
