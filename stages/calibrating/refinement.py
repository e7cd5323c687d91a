"""Logits on val -> which bias stands beside the temperature: none, of the prior, or of each class.

Each is fitted with its temperature by folds and judged by the NLL of rows that it was not fitted
on. The simplest that is not clearly worse than the best is taken. The ECE does not decide: NLL is a
proper score and holds calibration already, while the ECE also falls for a model that says less.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.calibrating.scaling import Scaling, fit_scaling
from stages.scoring.bootstrap import Resamples, mean_interval
from stages.scoring.metrics import Floats, Ints, row_nll
from stages.scoring.temperature import fit_temperature, one_hot

Refinement = Literal["none", "prior", "bias"]
# Simplest first.
REFINEMENTS: tuple[Refinement, ...] = ("none", "prior", "bias")
NOT_FITTED = "no optimum with the temperature, a class without rows, or an exponent above 2"
# Helmert's basis (6, 7) of all biases with the sum 0: what a bias per class may be.
_BASIS = np.tril(np.ones((7, 7)), -1)[1:] - np.diag(np.arange(7.0))[1:]
PER_CLASS: Floats = _BASIS / np.linalg.norm(_BASIS, axis=1, keepdims=True)

ASKED = "params.yaml says so"
_LARGEST = 2.0  # exponent of a prior: 1 is a prior that was never put back


@dataclass(frozen=True)
class Trial:
    """Refinements on val rows by folds, and which is taken.

    `held_out` has the probabilities (N, 7) of those that every fold could fit, simplest first; it
    is empty if nothing could be tried. `shares` (N, 7) are the class shares of the rows outside of
    each row's fold.
    """

    taken: Refinement
    reason: str
    held_out: Mapping[Refinement, Floats]
    shares: Floats


def untried(reason: str) -> Trial:
    """Make the trial of rows that nothing could be tried on."""
    return Trial("none", reason, {}, np.empty((0, 7)))


def class_shares(targets: Ints) -> Floats:
    """Return the share of each class (7,) among targets (N,)."""
    shares: Floats = np.bincount(targets, minlength=7) / len(targets)
    return shares


def directions_of(refinement: Refinement, targets: Ints) -> Floats:
    """Return the directions (K, 7) of a refinement's bias: `s * log shares`, less its mean."""
    if refinement == "prior":
        logs = np.log(class_shares(targets))
        return np.asarray((logs - logs.mean())[None])
    return PER_CLASS if refinement == "bias" else np.empty((0, 7))


def fit_refinement(refinement: Refinement, logits: Floats, targets: Ints) -> Scaling | None:
    """Fit a temperature and such a bias.

    The result is None if they have no optimum, a class has no row, or the bias is no prior: among
    almost even classes log shares are noise, and any bias along them has a huge exponent.
    """
    temperature = fit_temperature(logits, one_hot(targets))
    if temperature.no_fit:
        return None
    if refinement == "none":
        return Scaling(temperature.value)
    if (np.bincount(targets, minlength=7) == 0).any():
        return None
    directions = directions_of(refinement, targets)
    scaling = fit_scaling(logits, targets, directions=directions, start=temperature.value)
    if scaling and refinement == "prior" and abs(prior_exponent(scaling, targets)) > _LARGEST:
        return None
    return scaling


def prior_exponent(scaling: Scaling, targets: Ints) -> float:
    """Return the s of a bias `s * log shares` of targets (N,)."""
    (direction,) = directions_of("prior", targets)
    return float(np.asarray(scaling.class_bias) @ direction / (direction @ direction))


def try_refinements(
    logits: Floats,
    targets: Ints,
    *,
    asked: Literal["auto"] | Refinement,
    fold: Ints,
    resamples: Resamples,
) -> Trial:
    """Try all refinements by folds (N,), and take the one that is asked for or, by `auto`, earned.

    A refinement that some fold cannot fit is not taken by `auto`.
    """
    folds = [fold == held for held in np.unique(fold)]
    shares, held_out = np.empty_like(logits), {}
    if len(folds) < 2:
        return untried("too few groups") if asked == "auto" else Trial(asked, ASKED, {}, shares)
    for out in folds:
        shares[out] = class_shares(targets[~out])
    for refinement in REFINEMENTS:
        fits = [fit_refinement(refinement, logits[~out], targets[~out]) for out in folds]
        if all(fits):
            probabilities = np.empty_like(logits)
            for out, scaling in zip(folds, fits, strict=True):
                assert scaling is not None
                probabilities[out] = scaling.apply(logits[out])
            held_out[refinement] = probabilities
    if asked != "auto":
        return Trial(asked, ASKED, held_out, shares)
    if "none" not in held_out:
        return untried("some folds fit no temperature")
    nll = {refinement: row_nll(p, targets) for refinement, p in held_out.items()}
    best = min(nll, key=lambda refinement: float(nll[refinement].mean()))
    taken = next(
        refinement
        for refinement, rows in nll.items()
        if mean_interval(rows - nll[best], resamples=resamples)[0] <= 0
    )
    if len(held_out) == 1:
        reason = "no other could be fitted in every fold"
    elif taken == "none":
        reason = "no other lowers the NLL of held-out folds clearly"
    else:
        reason = "the simpler is clearly worse than the best in NLL of held-out folds"
    return Trial(taken, reason, held_out, shares)
