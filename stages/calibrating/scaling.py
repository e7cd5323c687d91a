"""Logits and targets -> temperature and bias with the least NLL together, and their intervals.

A bias on top of a temperature that was fitted alone makes the right class likelier, so that this T
is too sharp: both are fitted together.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from stages.scoring.bootstrap import Interval, Resamples, percentiles
from stages.scoring.metrics import Floats, Ints, softmax
from stages.scoring.temperature import HIGHEST, LOWEST, NO_BIAS, largest_at_zero

ClassNumbers = tuple[float, ...]  # seven, in the order of CLASSES

_MAX_STEPS = 100
_SMALL_STEP = 1e-8
_LEAST_INFORMATION = 1e-6  # of n rows in any direction: less is a standard error above 1,000


@dataclass(frozen=True)
class Scaling:
    """`softmax(logits / temperature + class_bias)`; the bias (7,) has the sum 0."""

    temperature: float
    class_bias: ClassNumbers = NO_BIAS

    def apply(self, logits: Floats) -> Floats:
        """Return probabilities (N, 7)."""
        return softmax(logits / self.temperature + np.asarray(self.class_bias))


@dataclass(frozen=True)
class ScalingIntervals:
    """95 % bootstrap intervals of T, of the K coefficients of the bias and of the bias (7,)."""

    temperature: Interval
    coefficients: tuple[Interval, ...]
    class_bias: tuple[Interval, ...]


def fit_scaling(
    logits: Floats, targets: Ints, *, directions: Floats, start: float
) -> Scaling | None:
    """Fit T, from `start`, and a bias in `directions` (K, 7) with the least NLL together.

    Convex in 1/T and bias (bias-corrected temperature scaling, Alexandari 2020). There is an
    optimum if no such bias is right on every row, and it counts if its T lies in 0.05..50 and the
    rows determine it; otherwise the result is None. Newton's steps shrink towards an optimum.
    Without an optimum the slope shrinks too, but each step is about as long as the last.
    """
    by_class = largest_at_zero(logits)
    if _is_parted(by_class, targets, directions):
        return None
    place = np.array([1 / start, *np.zeros(len(directions))])
    nll, slopes, curvature = _nll_at(place, by_class, targets, directions)
    for _ in range(_MAX_STEPS):
        slope = slopes.mean(axis=1)
        step = np.linalg.lstsq(curvature, slope, rcond=None)[0]
        if np.abs(step).max() < _SMALL_STEP:
            information = len(targets) * np.linalg.eigvalsh(curvature)[0]
            if not (1 / HIGHEST < place[0] < 1 / LOWEST and information > _LEAST_INFORMATION):
                return None
            return Scaling(float(1 / place[0]), tuple((place[1:] @ directions).tolist()))
        # Take the longest of 1, 1/2, 1/4, ... of the step that lowers the NLL enough.
        highest, share = nll + 1e-12, 1.0
        nll, slopes, curvature = _nll_at(place - step, by_class, targets, directions)
        while nll > highest - 1e-4 * share * float(slope @ step):
            share /= 2
            nll, slopes, curvature = _nll_at(place - share * step, by_class, targets, directions)
        place = place - share * step
    return None


def scaling_intervals(
    logits: Floats, targets: Ints, *, directions: Floats, scaling: Scaling, resamples: Resamples
) -> ScalingIntervals:
    """Return the intervals of a T and a bias that were fitted together in these directions (K, 7).

    Each draw goes one Newton step from them, with the curvature of all rows, so none is fitted
    anew. An end of T at a bound is open.
    """
    beta = 1 / scaling.temperature
    coefficients = np.linalg.lstsq(directions.T, np.asarray(scaling.class_bias), rcond=None)[0]
    place, by_class = np.array([beta, *coefficients]), largest_at_zero(logits)
    _, slopes, curvature = _nll_at(place, by_class, targets, directions)
    steps = resamples.totals(slopes.T) / len(targets) @ np.linalg.inv(curvature)
    bounds = np.log([LOWEST * beta, HIGHEST * beta])
    low, high = percentiles(np.clip(steps[:, 0] / beta, *bounds))
    drawn = coefficients - steps[:, 1:]
    return ScalingIntervals(
        temperature=(
            float(scaling.temperature * np.exp(low)),
            float(scaling.temperature * np.exp(high)),
        ),
        coefficients=tuple(percentiles(column) for column in drawn.T),
        class_bias=tuple(percentiles(column) for column in (drawn @ directions).T),
    )


def _nll_at(
    place: Floats, by_class: Floats, targets: Ints, directions: Floats
) -> tuple[float, Floats, Floats]:
    """Return the mean NLL, each row's slope (1 + K, N) and the curvature (1 + K, 1 + K).

    `place` (1 + K,) holds 1/T and the bias's coefficients; `by_class` are logits (7, N).
    """
    rows = np.arange(len(targets))
    scaled = by_class * place[0] + (place[1:] @ directions)[:, None]
    scaled -= scaled.max(axis=0)
    shares = np.exp(scaled)
    total = shares.sum(axis=0)
    shares /= total
    nll = float((np.log(total) - scaled[targets, rows]).mean())
    expected = (shares * by_class).sum(axis=0)
    curvature = np.empty((len(place), len(place)))
    curvature[0, 0] = ((shares * by_class**2).sum(axis=0) - expected**2).mean()
    curvature[0, 1:] = directions @ (shares * (by_class - expected)).mean(axis=1)
    curvature[1:, 0] = curvature[0, 1:]
    spread = np.diag(shares.mean(axis=1)) - shares @ shares.T / len(rows)
    curvature[1:, 1:] = directions @ spread @ directions.T
    shares[targets, rows] -= 1
    slopes = np.concatenate([(shares * by_class).sum(axis=0)[None], directions @ shares])
    return nll, slopes, curvature


def _is_parted(by_class: Floats, targets: Ints, directions: Floats) -> bool:
    """Return whether some bias is right on every row: then T -> 0 with it lowers the NLL for ever.

    Bias d is right where `d_k - d_y <= m_yk`, the least margin of the rows of class y over class k.
    """
    sides, margins = [], []
    for target in np.unique(targets):
        rows = by_class[:, targets == target]
        margins.append((rows[target] - rows).min(axis=1))
        sides.append((directions - directions[:, [target]]).T)
    nothing = np.zeros(len(directions))
    bounds = np.concatenate(margins)
    solution = linprog(nothing, A_ub=np.concatenate(sides), b_ub=bounds, bounds=(None, None))
    return bool(solution.status == 0)
