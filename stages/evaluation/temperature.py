"""Logits and targets -> the calibration temperature, and probabilities scaled by one.

This is the temperature that makes confidence honest; it is not a distillation temperature.
"""

import numpy as np
from scipy.optimize import minimize_scalar

from stages.evaluation.metrics import Floats, Ints, log_probabilities, row_nll, softmax
from stages.runtime.errors import UserError

LOWEST, HIGHEST = 0.05, 50.0
_TOUCHED = 1e-3  # nearer to a bound than this, in log T, is a clamp and not a minimum


def scale(probabilities: Floats, temperature: float) -> Floats:
    """`softmax(log p / T)`, (N, C); for `p = softmax(logits)` the same as `softmax(logits / T)`."""
    return softmax(log_probabilities(probabilities) / temperature)


def fit_temperature(logits: Floats, targets: Ints, *, name: str) -> float:
    """The T in 0.05..50 that minimises the NLL of `softmax(logits / T)` (Guo 2017).

    The NLL is convex in 1/T, so it has one minimum in log T, where the search runs.

    Raises:
        UserError: when the search ends at a bound; `name` says of which model and rows.
    """
    low, high = np.log(LOWEST), np.log(HIGHEST)

    def nll(log_t: float) -> float:
        return float(row_nll(softmax(logits / np.exp(log_t)), targets).mean())

    found = minimize_scalar(nll, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    if min(found.x - low, high - found.x) < _TOUCHED:
        raise UserError(
            f"{name}: no calibration temperature: expected a minimum of the NLL between "
            f"{LOWEST:g} and {HIGHEST:g}, got the bound {np.exp(found.x):.3g} "
            f"(NLL {found.fun:.4f}, {len(targets)} rows); {_reason(found.x > 0)}"
        )
    return float(np.exp(found.x))


def _reason(is_high: bool) -> str:
    if is_high:
        return "the logits say nothing of these labels"
    return "the logits are right on every row, or these rows were trained on"
