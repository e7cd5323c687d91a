"""Reliability table -> the calibration error that is left when the scatter of bins is taken off."""

import numpy as np
from scipy.special import erf

from stages.evaluation.metrics import Floats, Ints
from stages.evaluation.reliability import reliability_table


def debiased_calibration_error(probabilities: Floats, targets: Ints, *, bins: int) -> float:
    """The ECE of equal-width bins less its bias, at least 0.

    A bin's gap `d` is the true one plus noise of deviation `s = sqrt(c (1 - c) / n_b)`, so `|d|` is
    too large by about `E|N(d, s)| - |d|` (after Kumar 2019, with the normal law's mean in closed
    form and the variance that the bin's confidence `c` claims).
    """
    table = reliability_table(probabilities, targets, bins=bins)
    table = table[table["count"] > 0]
    count, confidence = table["count"].to_numpy(), table["confidence"].to_numpy()
    gap = (table["accuracy"] - table["confidence"]).abs().to_numpy()
    deviation = np.sqrt(np.maximum(confidence * (1 - confidence), 0) / count)
    corrected = 2 * gap - folded_mean(gap, deviation)
    return max(0.0, float((corrected * count).sum() / count.sum()))


def folded_mean(mean: Floats, deviation: Floats) -> Floats:
    """`E|X|` of `X ~ N(mean, deviation^2)`, elementwise; `|mean|` where the deviation is 0."""
    spread = np.where(deviation > 0, deviation, 1.0)
    ratio = mean / spread / np.sqrt(2)
    folded = spread * np.sqrt(2 / np.pi) * np.exp(-(ratio**2)) + mean * erf(ratio)
    result: Floats = np.where(deviation > 0, folded, np.abs(mean))
    return result
