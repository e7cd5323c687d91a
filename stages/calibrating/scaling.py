"""Logits -> temperature and bias, fitted together, and whether the bias earns its place.

A bias is adopted only if its gain is real on rows that it was not fitted on. A bias on top of a
temperature that was fitted alone makes the right class likelier, so that this T is too sharp.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from stages.scoring.bootstrap import Interval, Resamples, mean_interval, percentiles
from stages.scoring.metrics import Floats, Ints, row_nll, softmax
from stages.scoring.temperature import (
    HIGHEST,
    LOWEST,
    fit_temperature,
    largest_at_zero,
    one_hot,
    temperature_interval,
)

ClassBias = tuple[float, ...]
NO_BIAS: ClassBias = (0.0,) * 7
NO_OPTIMUM = "temperature and bias have no optimum together"
# Helmert's basis (6, 7) of all biases with the sum 0: what a bias per class may be.
_BASIS = np.tril(np.ones((7, 7)), -1)[1:] - np.diag(np.arange(7.0))[1:]
PER_CLASS: Floats = _BASIS / np.linalg.norm(_BASIS, axis=1, keepdims=True)

_MAX_STEPS = 100
_SMALL_STEP = 1e-8
_LEAST_INFORMATION = 1e-6  # of n rows in any direction: less is a standard error above 1,000


@dataclass(frozen=True)
class Scaling:
    """`softmax(logits / temperature + class_bias)`; the bias (7,) has the sum 0."""

    temperature: float
    class_bias: ClassBias = NO_BIAS

    def apply(self, logits: Floats) -> Floats:
        """Return probabilities (N, 7)."""
        return softmax(logits / self.temperature + np.asarray(self.class_bias))


@dataclass(frozen=True)
class Trial:
    """A bias per class, tried on rows that it was not fitted on, and whether it is adopted.

    `without` and `refined` are their probabilities (N, 7); N is 0 if it could not be tried.
    """

    adopted: bool
    reason: str
    targets: Ints
    without: Floats
    refined: Floats


def untried(reason: str) -> Trial:
    """Make the trial of a bias that could not be tried."""
    return Trial(False, reason, np.empty(0, dtype=np.int64), *np.empty((2, 0, 7)))


def try_bias(logits: Floats, targets: Ints, *, fold: Ints, resamples: Resamples) -> Trial:
    """Try a bias per class by folds (N,); adopt it if the interval of its NLL change is below 0.

    The ECE is not used to decide: NLL is a proper score and holds calibration already, while the
    ECE also falls for a model that says less, and no interval of its change holds its rate. The
    bias is not tried if the rows outside of a fold have no optimum, with a bias or without.
    """
    held_out = np.unique(fold)
    if len(held_out) < 2:
        return untried("too few groups")
    if any((np.bincount(targets[fold != held], minlength=7) == 0).any() for held in held_out):
        return untried("a class has too few rows")
    without, refined = np.empty_like(logits), np.empty_like(logits)
    for held in held_out:
        out = fold == held
        temperature = fit_temperature(logits[~out], one_hot(targets[~out]))
        scaling = fit_scaling(
            logits[~out], targets[~out], directions=PER_CLASS, start=temperature.value
        )
        if temperature.no_fit or scaling is None:
            return untried(f"{NO_OPTIMUM} without fold {held}")
        without[out] = Scaling(temperature.value).apply(logits[out])
        refined[out] = scaling.apply(logits[out])
    change = row_nll(refined, targets) - row_nll(without, targets)
    adopted = mean_interval(change, resamples=resamples)[1] < 0
    reason = "the NLL of held-out folds falls" if adopted else "no real gain on held-out folds"
    return Trial(adopted, reason, targets, without, refined)


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


def scaling_interval(
    logits: Floats, targets: Ints, *, directions: Floats, scaling: Scaling, resamples: Resamples
) -> Interval:
    """Return the 95 % bootstrap interval of a T that was fitted alone or with such a bias.

    Each draw goes one Newton step from it, with the curvature of all rows, so none is fitted anew.
    An end at a bound is open.
    """
    if scaling.class_bias == NO_BIAS:
        return temperature_interval(
            logits, one_hot(targets), temperature=scaling.temperature, resamples=resamples
        )
    beta = 1 / scaling.temperature
    coefficients = np.linalg.lstsq(directions.T, np.asarray(scaling.class_bias), rcond=None)[0]
    place, by_class = np.array([beta, *coefficients]), largest_at_zero(logits)
    _, slopes, curvature = _nll_at(place, by_class, targets, directions)
    steps = resamples.totals(slopes.T) / len(targets) @ np.linalg.inv(curvature)
    bounds = np.log([LOWEST * beta, HIGHEST * beta])
    low, high = percentiles(np.clip(steps[:, 0] / beta, *bounds))
    return float(scaling.temperature * np.exp(low)), float(scaling.temperature * np.exp(high))


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
