"""Logits and labels -> the calibration temperature, and probabilities scaled by one.

This is the temperature that makes confidence honest; it is not a distillation temperature. Labels
are shares (N, C) of the classes: one-hot for the majority label, the crowd's votes else.
"""

import numpy as np
from scipy.optimize import minimize_scalar

from stages.evaluation.bootstrap import Interval, Resamples, percentiles
from stages.evaluation.metrics import Floats, Ints, log_probabilities, softmax
from stages.runtime.errors import UserError

LOWEST, HIGHEST = 0.05, 50.0
_TOUCHED = 1e-3  # nearer to a bound than this, in log T, is a clamp and not a minimum


def one_hot(targets: Ints) -> Floats:
    """Shares (N, 7) that give all of a row to its class."""
    return np.eye(7)[targets]


def scale(probabilities: Floats, temperature: float) -> Floats:
    """`softmax(log p / T)`, (N, C); for `p = softmax(logits)` the same as `softmax(logits / T)`."""
    return softmax(log_probabilities(probabilities) / temperature)


def fit_temperature(logits: Floats, shares: Floats, *, name: str) -> float:
    """The T in 0.05..50 with the least cross-entropy of shares to `softmax(logits / T)` (Guo 2017).

    For one-hot shares that is the NLL. It is convex in 1/T, so it has one minimum in log T, where
    the search runs.

    Raises:
        UserError: when the search ends at a bound; `name` says of which model and rows.
    """
    low, high = np.log(LOWEST), np.log(HIGHEST)
    # With the largest logit at 0 nothing overflows; classes first, as sums over them are faster.
    shifted = np.ascontiguousarray((logits - logits.max(axis=1, keepdims=True)).T)
    wanted = float((shares.T * shifted).sum(axis=0).mean())

    def cross_entropy(log_t: float) -> float:
        beta = np.exp(-log_t)
        return float(np.log(np.exp(shifted * beta).sum(axis=0)).mean() - wanted * beta)

    found = minimize_scalar(
        cross_entropy, bounds=(low, high), method="bounded", options={"xatol": 1e-6}
    )
    if min(found.x - low, high - found.x) < _TOUCHED:
        raise UserError(
            f"{name}: no calibration temperature: expected a minimum of the NLL between "
            f"{LOWEST:g} and {HIGHEST:g}, got the bound {np.exp(found.x):.3g} "
            f"(NLL {found.fun:.4f}, {len(shares)} rows); {_reason(found.x > 0)}"
        )
    return float(np.exp(found.x))


def temperature_interval(
    logits: Floats, shares: Floats, *, temperature: float, resamples: Resamples
) -> Interval:
    """The 95 % bootstrap interval of a fitted T: each draw goes one Newton step from it in log T.

    Slope and curvature of the cross-entropy are sums over rows, so no draw is fitted anew.
    """
    beta = 1 / temperature
    probabilities = softmax(logits * beta)
    expected = (probabilities * logits).sum(axis=1)
    slope = expected - (shares * logits).sum(axis=1)
    curvature = (probabilities * logits**2).sum(axis=1) - expected**2
    slopes, curvatures = resamples.totals(np.column_stack([slope, curvature])).T
    low, high = percentiles(slopes / (beta * curvatures))
    return float(temperature * np.exp(low)), float(temperature * np.exp(high))


def _reason(is_high: bool) -> str:
    if is_high:
        return "the logits say nothing of these labels"
    return "the logits are right on every row, or these rows were trained on"
