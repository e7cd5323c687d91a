"""Scaled logits -> a bias per class on top of the temperature, for classes that one T leaves out.

It is adopted only if its gain is real on rows that it was not fitted on.
"""

from dataclasses import dataclass

import numpy as np

from stages.evaluation.bootstrap import Interval, Resamples, mean_interval
from stages.evaluation.metrics import Floats, Ints, row_nll, softmax

ClassBias = tuple[float, ...]
NO_BIAS: ClassBias = (0.0,) * 7

_MAX_STEPS = 200
_FLAT = 1e-9


@dataclass(frozen=True)
class Refinement:
    """What a bias per class would change on held-out folds, and whether it is used.

    Changes are with the bias minus without; they are None if it could not be tried.
    """

    class_bias: ClassBias
    adopted: bool
    reason: str
    n: int
    nll_change: float | None = None
    nll_change_95: Interval | None = None
    accuracy_change: float | None = None
    accuracy_change_95: Interval | None = None


def refine(logits: Floats, targets: Ints, *, fold: Ints, resamples: Resamples) -> Refinement:
    """Try a bias per class by folds (N,); adopt it if the interval of its NLL change is below 0."""
    if len(np.unique(fold)) < 2:
        return Refinement(NO_BIAS, adopted=False, reason="too few groups", n=len(targets))
    if reason := _without_class(targets, fold):
        return Refinement(NO_BIAS, adopted=False, reason=reason, n=len(targets))
    before, after = softmax(logits), np.empty_like(logits)
    for held in np.unique(fold):
        out = fold == held
        after[out] = softmax(logits[out] + fit_class_bias(logits[~out], targets[~out]))
    nll = row_nll(after, targets) - row_nll(before, targets)
    hits = [(found.argmax(axis=1) == targets).astype(np.float64) for found in (before, after)]
    nll_95 = mean_interval(nll, resamples=resamples)
    adopted = nll_95[1] < 0
    return Refinement(
        class_bias=fit_class_bias(logits, targets) if adopted else NO_BIAS,
        adopted=adopted,
        reason="the NLL of held-out folds falls" if adopted else "no real gain on held-out folds",
        n=len(targets),
        nll_change=float(nll.mean()),
        nll_change_95=nll_95,
        accuracy_change=float((hits[1] - hits[0]).mean()),
        accuracy_change_95=mean_interval(hits[1] - hits[0], resamples=resamples),
    )


def fit_class_bias(logits: Floats, targets: Ints) -> ClassBias:
    """The bias (7,), of sum 0, with the least NLL of `softmax(logits + bias)`.

    Convex, and finite where each class has a row: there the mean probability of each class becomes
    its share of the rows (bias-corrected temperature scaling, Alexandari 2020).
    """
    share = np.bincount(targets, minlength=logits.shape[1]) / len(targets)
    bias = np.zeros(logits.shape[1])
    for _ in range(_MAX_STEPS):
        probabilities = softmax(logits + bias)
        mean = probabilities.mean(axis=0)
        slope = mean - share
        if np.abs(slope).max() < _FLAT:
            return tuple(float(value) for value in bias - bias.mean())
        curvature = np.diag(mean) - probabilities.T @ probabilities / len(targets)
        step = np.linalg.lstsq(curvature, slope, rcond=None)[0]
        bias -= step / max(1.0, float(np.abs(step).max()))
    raise AssertionError("a convex problem with a minimum, by Newton's method")


def _without_class(targets: Ints, fold: Ints) -> str:
    """Which class some fit would have no row of; empty if none."""
    for held in np.unique(fold):
        if (np.bincount(targets[fold != held], minlength=7) == 0).any():
            return "a class has too few rows"
    return ""
