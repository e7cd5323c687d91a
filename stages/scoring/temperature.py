"""Logits and labels -> the calibration temperature, its interval, and scaled probabilities.

This temperature makes confidence agree with accuracy; it is not a distillation temperature. Labels
are shares (N, C) of the classes: one-hot for the majority label, or the crowd's votes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from stages.scoring.bootstrap import Interval, Resamples, percentiles
from stages.scoring.metrics import Floats, Ints, log_probabilities, softmax

LOWEST, HIGHEST = 0.05, 50.0
NO_BIAS = (0.0,) * 7


@dataclass(frozen=True)
class Temperature:
    """A temperature; where the rows fit none it is 1, and `no_fit` says why."""

    value: float
    no_fit: str | None = None


def one_hot(targets: Ints) -> Floats:
    """Shares (N, 7) that are 1 for the class of each row."""
    return np.eye(7)[targets]


def scale(probabilities: Floats, temperature: float) -> Floats:
    """`softmax(log p / T)`, (N, C); for `p = softmax(logits)` the same as `softmax(logits / T)`."""
    return softmax(log_probabilities(probabilities) / temperature)


def fit_temperature(
    logits: Floats, shares: Floats, *, bias: Sequence[float] = NO_BIAS
) -> Temperature:
    """Find the T in 0.05..50 with which `softmax(logits / T + bias)` has the least cross-entropy.

    For one-hot shares that is the NLL (Guo 2017). It is convex in `b = 1 / T` with the slope
    `E_p[z] - E_s[z]` over all rows, so an optimum lies inside if the slope changes its sign between
    the bounds. If it does not, there is no fit and T is 1.
    """
    by_class = largest_at_zero(logits)
    wanted = (shares.T * by_class).sum(axis=0)

    def slope(inverse: float) -> float:
        return float(_row_slopes(by_class, wanted, inverse=inverse, bias=bias).mean())

    n = len(shares)
    if slope(0) >= 0:
        return Temperature(1.0, f"the logits say nothing of the labels of these {n} rows")
    if (wanted == 0).all():
        return Temperature(1.0, f"the logits are right on each of {n} rows")
    if slope(1 / HIGHEST) >= 0:
        return Temperature(1.0, f"the optimum of {n} rows lies above {HIGHEST:g}")
    if slope(1 / LOWEST) <= 0:
        return Temperature(1.0, f"the optimum of {n} rows lies below {LOWEST:g}")
    log_t = brentq(lambda log_t: slope(np.exp(-log_t)), np.log(LOWEST), np.log(HIGHEST), xtol=1e-10)
    return Temperature(float(np.exp(log_t)))


def temperature_interval(
    logits: Floats,
    shares: Floats,
    *,
    temperature: float,
    resamples: Resamples,
    bias: Sequence[float] = NO_BIAS,
) -> Interval:
    """The 95 % bootstrap interval of a fitted T: each draw goes one Newton step from it in log T.

    Slope and curvature of the cross-entropy are sums over rows, so no draw is fitted anew. A draw
    that has no optimum inside counts as the bound it runs to: an end at a bound is open.
    """
    by_class = largest_at_zero(logits)
    wanted = (shares.T * by_class).sum(axis=0)
    inverse = 1 / temperature
    at_lowest, here, at_highest = (
        _row_slopes(by_class, wanted, inverse=b, bias=bias)
        for b in (1 / LOWEST, inverse, 1 / HIGHEST)
    )
    probabilities = softmax(logits * inverse + np.asarray(bias)).T
    expected = (probabilities * by_class).sum(axis=0)
    curvature = (probabilities * by_class**2).sum(axis=0) - expected**2
    columns = np.column_stack([here, curvature, at_lowest, at_highest])
    slopes, curvatures, lowest, highest = resamples.totals(columns).T
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = slopes / (inverse * curvatures)
    steps[lowest <= 0] = -np.inf
    steps[highest >= 0] = np.inf
    low, high = percentiles(np.clip(steps, *np.log([LOWEST * inverse, HIGHEST * inverse])))
    return float(temperature * np.exp(low)), float(temperature * np.exp(high))


def largest_at_zero(logits: Floats) -> Floats:
    """Logits by class (C, N), shifted until the largest of each row is exactly 0.

    So nothing overflows, and where the label has the largest logit all terms of the slope have the
    same sign: no rounding makes an optimum. Sums over a few classes are faster in this order.
    """
    assert np.isfinite(logits).all(), "logits are checked when they are read"
    return np.ascontiguousarray((logits - logits.max(axis=1, keepdims=True)).T)


def _row_slopes(
    by_class: Floats, wanted: Floats, *, inverse: float, bias: Sequence[float]
) -> Floats:
    """Slope (N,) of each row's cross-entropy in 1 / T; `wanted` (N,) are the means by shares."""
    weights = np.exp(by_class * inverse + np.asarray(bias)[:, None])
    slopes: Floats = (weights * by_class).sum(axis=0) / weights.sum(axis=0) - wanted
    return slopes
