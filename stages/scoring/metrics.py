"""Probabilities and targets -> numbers. The same score for training, calibration and evaluation.

Classes are in the order of `stages.config.CLASSES`; a prediction is the most probable one.
"""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_fscore_support

from stages.config import CLASSES
from stages.scoring.reliability import expected_calibration_error

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_TINY = np.finfo(np.float64).tiny


class Scores(TypedDict):
    """Shares are in 0..1; nll in nats; brier in 0..2; f1 by class name."""

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    f1: dict[str, float]
    nll: float
    brier: float
    ece: float


def softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """Probabilities (N, C) float64 of logits (N, C)."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def log_probabilities(probabilities: Floats) -> Floats:
    """Logarithms (N, C) that stay finite where a probability underflowed to 0."""
    result: Floats = np.log(np.maximum(probabilities, _TINY))
    return result


def score(probabilities: Floats, targets: Ints, *, bins: int) -> Scores:
    """Score probabilities (N, 7) against class numbers (N,), N >= 1.

    F1 runs over all seven classes and is 0 for a class that is neither there nor predicted;
    balanced accuracy is the mean recall of the classes that are there.
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
