"""Logits -> a bias per class beside the temperature, for classes that one T leaves out.

It is adopted only if its gain is real on rows that it was not fitted on. Temperature and bias are
fitted together: a bias alone makes the right class likelier, so that its T is too sharp.
"""

from dataclasses import dataclass

import numpy as np

from stages.scoring.bootstrap import (
    Estimate,
    Interval,
    Resamples,
    draw,
    mean_interval,
    paired_differences,
    percentiles,
)
from stages.scoring.metrics import Floats, Ints, row_nll, softmax
from stages.scoring.temperature import (
    HIGHEST,
    LOWEST,
    fit_temperature,
    largest_at_zero,
    one_hot,
)

ClassBias = tuple[float, ...]
NO_BIAS: ClassBias = (0.0,) * 7
NO_OPTIMUM = "temperature and bias have no optimum together"

_MAX_STEPS = 100
_SMALL_STEP = 1e-8
_LEAST_INFORMATION = 1e-6  # of n rows in any direction: less is a standard error above 1,000
_REPORTED = ("nll", "accuracy", "macro_f1")


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

    `without` and `refined` are these rows' probabilities (N, 7); N is 0 if it could not be tried.
    """

    adopted: bool
    reason: str
    targets: Ints
    without: Floats
    refined: Floats

    def changes(self, *, resamples: Resamples, bins: int) -> dict[str, Estimate]:
        """Return what the bias changes, with minus without; empty if it could not be tried."""
        if not len(self.targets):
            return {}
        before, after = (
            draw(probabilities, self.targets, resamples=resamples, bins=bins)
            for probabilities in (self.without, self.refined)
        )
        return paired_differences(before, after, metrics=_REPORTED)


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
        scaling = fit_scaling(logits[~out], targets[~out], start=temperature.value)
        if temperature.no_fit or scaling is None:
            return untried(f"{NO_OPTIMUM} without fold {held}")
        without[out] = Scaling(temperature.value).apply(logits[out])
        refined[out] = scaling.apply(logits[out])
    change = row_nll(refined, targets) - row_nll(without, targets)
    adopted = mean_interval(change, resamples=resamples)[1] < 0
    reason = "the NLL of held-out folds falls" if adopted else "no real gain on held-out folds"
    return Trial(adopted, reason, targets, without, refined)


def untried(reason: str) -> Trial:
    """Make the trial of a bias that could not be tried."""
    nothing = np.empty((0, 7))
    return Trial(False, reason, np.empty(0, dtype=np.int64), nothing, nothing)


def fit_scaling(logits: Floats, targets: Ints, *, start: float) -> Scaling | None:
    """Fit T and bias with the least NLL together, from T = `start`; None without an optimum.

    Convex in 1/T and bias: at its optimum the mean probability of each class is its share of the
    rows (bias-corrected temperature scaling, Alexandari 2020). There is an optimum if no bias is
    right on every row, and it counts if its T lies in 0.05..50. Newton's steps shrink towards it.
    Without one the slope shrinks too, but each step is about as long as the last.
    """
    by_class = largest_at_zero(logits)
    if _is_parted(by_class, targets):
        return None
    here = _at(by_class, targets, np.array([1 / start, *NO_BIAS]))
    for _ in range(_MAX_STEPS):
        step = _newton_step(here)
        if np.abs(step).max() < _SMALL_STEP:
            return _scaling_at(here)
        here = _descend(by_class, targets, here, step=step)
    return None


def scaling_interval(
    logits: Floats, targets: Ints, *, scaling: Scaling, resamples: Resamples
) -> Interval:
    """Return the 95 % bootstrap interval of a T that was fitted with a bias.

    Each draw goes one Newton step from it, with the curvature of all rows, so none is fitted anew.
    An end at a bound is open.
    """
    beta = 1 / scaling.temperature
    here = _at(largest_at_zero(logits), targets, np.array([beta, *scaling.class_bias]))
    slopes = resamples.totals(here.slopes.T) / len(targets)
    steps = slopes @ np.linalg.inv(here.curvature)
    bounds = np.log([LOWEST * beta, HIGHEST * beta])
    low, high = percentiles(np.clip(steps[:, 0] / beta, *bounds))
    return float(scaling.temperature * np.exp(low)), float(scaling.temperature * np.exp(high))


@dataclass(frozen=True)
class _Point:
    """The NLL at a place (8,) of 1/T and bias: mean, slope of each row (8, N), curvature (8, 8)."""

    place: Floats
    nll: float
    slopes: Floats
    curvature: Floats

    @property
    def slope(self) -> Floats:
        """Return the slope of the mean NLL, (8,)."""
        result: Floats = self.slopes.mean(axis=1)
        return result


def _is_parted(by_class: Floats, targets: Ints) -> bool:
    """Return whether some bias is right on every row: then T -> 0 with it lowers the NLL for ever.

    Bias d is right where `d_k - d_y <= m_yk`, the least margin of the rows of class y over class k.
    These have a solution if no cycle of margins has a sum below 0 (Floyd and Warshall).
    """
    paths = np.full((len(by_class), len(by_class)), np.inf)
    for target in np.unique(targets):
        rows = by_class[:, targets == target]
        paths[target] = (rows[target] - rows).min(axis=1)
    for via in range(len(paths)):
        paths = np.minimum(paths, paths[:, [via]] + paths[[via], :])
    return bool((np.diag(paths) >= 0).all())


def _scaling_at(here: _Point) -> Scaling | None:
    """Return the scaling at an optimum; None if T is out of bounds or the rows leave it open."""
    place = here.place
    information = len(here.slopes.T) * np.linalg.eigvalsh(here.curvature)[0]
    if not (1 / HIGHEST < place[0] < 1 / LOWEST and information > _LEAST_INFORMATION):
        return None
    bias = place[1:] - place[1:].mean()
    return Scaling(float(1 / place[0]), tuple(float(value) for value in bias))


def _at(by_class: Floats, targets: Ints, place: Floats) -> _Point:
    rows = np.arange(len(targets))
    scaled = by_class * place[0] + place[1:, None]
    scaled -= scaled.max(axis=0)
    shares = np.exp(scaled)
    total = shares.sum(axis=0)
    shares /= total
    nll = float((np.log(total) - scaled[targets, rows]).mean())
    expected = (shares * by_class).sum(axis=0)
    curvature = np.empty((len(place), len(place)))
    curvature[0, 0] = ((shares * by_class**2).sum(axis=0) - expected**2).mean()
    curvature[0, 1:] = curvature[1:, 0] = (shares * (by_class - expected)).mean(axis=1)
    # An equal bias for all classes changes nothing: the last term makes it cost something.
    curvature[1:, 1:] = np.diag(shares.mean(axis=1)) - shares @ shares.T / len(rows) + 1 / 7
    wrong = shares
    wrong[targets, rows] -= 1
    slopes = np.concatenate([(wrong * by_class).sum(axis=0)[None], wrong])
    return _Point(place, nll, slopes, curvature)


def _newton_step(here: _Point) -> Floats:
    """Return the step to subtract; the sum of its biases is 0."""
    step, *_ = np.linalg.lstsq(here.curvature, here.slope, rcond=None)
    return np.asarray(step, dtype=np.float64)


def _descend(by_class: Floats, targets: Ints, here: _Point, *, step: Floats) -> _Point:
    """Take the longest of 1, 1/2, 1/4, ... of Newton's step that lowers the NLL enough."""
    gain, share = float(here.slope @ step), 1.0
    after = _at(by_class, targets, here.place - step)
    while after.nll > here.nll - 1e-4 * share * gain + 1e-12:
        share /= 2
        after = _at(by_class, targets, here.place - share * step)
    return after
