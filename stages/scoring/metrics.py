"""Probabilities and targets -> numbers, the same for training, calibration and evaluation.

Classes are in the order of `CLASSES`; a prediction is the most probable one.
"""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import rel_entr
from sklearn.metrics import precision_recall_fscore_support

from stages.config import CLASSES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_TINY = np.finfo(np.float64).tiny


class Scores(TypedDict):
    """Metrics of some rows: shares are in 0..1, nll in nats, brier in 0..2, f1 by class name."""

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    f1: dict[str, float]
    nll: float
    brier: float
    ece: float


def softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """Probabilities (..., C) float64 of logits (..., C)."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def log_probabilities(probabilities: Floats) -> Floats:
    """Logarithms (..., C) that stay finite where a probability underflowed to 0."""
    result: Floats = np.log(np.maximum(probabilities, _TINY))
    return result


def score(probabilities: Floats, targets: Ints, *, bins: int) -> Scores:
    """Score probabilities (N, 7) against class numbers (N,), N >= 1.

    Macro-F1 is the mean F1 of all seven classes; the F1 of a class that is neither in the rows nor
    predicted is 0. Balanced accuracy is the mean recall of the classes in the rows.
    """
    predicted = probabilities.argmax(axis=1)
    _, recall, f1, support = precision_recall_fscore_support(
        targets, predicted, labels=range(len(CLASSES)), zero_division=0
    )
    return Scores(
        accuracy=float((predicted == targets).mean()),
        balanced_accuracy=float(recall[support > 0].mean()),
        macro_f1=float(f1.mean()),
        f1={name: float(value) for name, value in zip(CLASSES, f1, strict=True)},
        nll=float(row_nll(probabilities, targets).mean()),
        brier=float(row_brier(probabilities, targets).mean()),
        ece=expected_calibration_error(probabilities, targets, bins=bins),
    )


def row_nll(probabilities: Floats, targets: Ints) -> Floats:
    """Negative log-likelihood of each row, (N,), nats."""
    result: Floats = -log_probabilities(probabilities[np.arange(len(targets)), targets])
    return result


def row_brier(probabilities: Floats, targets: Ints) -> Floats:
    """Brier score of each row, (N,): `sum_c (p_c - [c is the target])^2`, 0..2 (Brier 1950)."""
    wanted = np.eye(probabilities.shape[1])[targets]
    result: Floats = np.square(probabilities - wanted).sum(axis=1)
    return result


def row_kl(probabilities: Floats, shares: Floats) -> Floats:
    """`KL(shares || p) = sum_c s_c log(s_c / p_c)` of each row and its votes (N, C), (N,), nats."""
    result: Floats = rel_entr(shares, np.exp(log_probabilities(probabilities))).sum(axis=1)
    return result


def expected_calibration_error(probabilities: Floats, targets: Ints, *, bins: int) -> float:
    """ECE of the top probability: `sum_b n_b / n * |accuracy_b - confidence_b|` (Guo 2017)."""
    table = reliability_table(probabilities, targets, bins=bins)
    gaps = (table["accuracy"] - table["confidence"]).abs() * table["count"]
    return float(gaps.sum() / table["count"].sum())


def reliability_table(probabilities: Floats, targets: Ints, *, bins: int) -> pd.DataFrame:
    """Tell how confidence and accuracy agree: `low, high, count, confidence, accuracy` by bin.

    Bins have equal widths. Confidence and accuracy are means, NaN in a bin without rows.
    """
    confidence = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    position = bin_of(confidence, bins=bins)
    count = np.bincount(position, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    edges = np.linspace(0, 1, bins + 1)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "count": count,
            "confidence": np.bincount(position, weights=confidence, minlength=bins) / filled,
            "accuracy": np.bincount(position, weights=correct, minlength=bins) / filled,
        }
    )


def bin_of(confidence: Floats, *, bins: int) -> Ints:
    """The bin 0..bins-1 of each confidence; bins are [low, high), the last bin holds 1 too."""
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(inner_edges, confidence, side="right").astype(np.int64)
