import numpy as np
import pytest
import torch
import torchmetrics.classification
from sklearn.calibration import calibration_curve

from stages.evaluation.debiased import debiased_calibration_error, folded_mean
from stages.evaluation.metrics import score, softmax
from stages.evaluation.reliability import class_calibration_errors
from stages.evaluation.sums import METRICS, Layout, mass_bin_of, metrics_of, row_sums


def _metrics(probabilities, targets, bins=15):
    sums = row_sums(probabilities, targets, bins=bins).sum(axis=0, keepdims=True)
    return {name: found[0] for name, found in metrics_of(sums, layout=Layout(7, bins)).items()}


def test_sums_over_rows_give_the_scores(draw):
    logits, targets = draw(300)
    probabilities = softmax(logits * 2)
    found, oracle = _metrics(probabilities, targets), score(probabilities, targets, bins=15)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece"):
        assert found[name] == pytest.approx(oracle[name]), name
    assert found["f1_of_class"] == pytest.approx(list(oracle["f1"].values()))
    assert set(METRICS) <= set(found)


def test_classwise_error_is_that_of_torchmetrics_for_each_class(draw):
    logits, targets = draw(700)
    probabilities = softmax(logits * 3)
    binary = torchmetrics.classification.BinaryCalibrationError(n_bins=15, norm="l1")
    oracle = [
        float(binary(torch.from_numpy(probabilities[:, c]), torch.from_numpy(targets == c)))
        for c in range(7)
    ]
    found = class_calibration_errors(probabilities, targets, bins=15)
    assert found == pytest.approx(oracle, abs=1e-6)


def test_equal_mass_error_is_that_of_sklearn_s_quantile_bins(draw):
    logits, targets = draw(703)
    probabilities = softmax(logits * 3)
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == targets
    accuracy, mean = calibration_curve(hits, confidence, n_bins=10, strategy="quantile")
    share = np.bincount(mass_bin_of(confidence, bins=10)) / len(hits)
    assert share == pytest.approx(0.1, abs=0.002)
    oracle = (share * np.abs(accuracy - mean)).sum()
    assert _metrics(probabilities, targets, bins=10)["ece_equal_mass"] == pytest.approx(oracle)


def test_equal_confidences_share_a_bin():
    assert len(set(mass_bin_of(np.full(50, 0.4), bins=15))) == 1


def test_folded_mean_is_that_of_drawn_numbers():
    drawn = np.abs(np.random.default_rng(0).normal(0.3, 0.5, size=200_000)).mean()
    assert folded_mean(np.array([0.3]), np.array([0.5]))[0] == pytest.approx(drawn, rel=0.01)
    assert folded_mean(np.array([0.3]), np.array([0.0]))[0] == pytest.approx(0.3)


@pytest.mark.parametrize(("sharpened", "part"), [(1, 0.6), (1.3, 0.5), (2, 10)])
def test_debiased_error_is_near_the_known_one(draw, sharpened, part):
    """It takes off two fifths of the bias and more; of a large error, that has none, hardly anything."""
    logits, targets = draw(400_000, seed=99)
    truth = score(softmax(logits * sharpened), targets, bins=15)["ece"]
    plain, debiased = [], []
    for seed in range(60):
        logits, targets = draw(300, seed=seed)
        probabilities = softmax(logits * sharpened)
        plain.append(score(probabilities, targets, bins=15)["ece"])
        debiased.append(debiased_calibration_error(probabilities, targets, bins=15))
    assert abs(np.mean(debiased) - truth) < part * abs(np.mean(plain) - truth)
    assert (np.array(debiased) <= np.array(plain)).all()
