"""Members' probabilities on val -> fusion weights, temperature and class bias; once or by folds.

A single teacher is a fusion of one. First the members are mixed, then the mixture is scaled, then
the bias is added where it was adopted. Rows that fit no temperature are no error: T is 1, without a
bias, and what is calibrated so says why.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import logsumexp

from stages.calibrating.published import Mask
from stages.calibrating.scaling import (
    NO_BIAS,
    NO_OPTIMUM,
    PER_CLASS,
    ClassBias,
    Scaling,
    Trial,
    fit_scaling,
    try_bias,
    untried,
)
from stages.config import Calibrate
from stages.records.schema import shares_of, targets_of
from stages.runtime.seed import generator
from stages.scoring.bootstrap import Resamples, resample
from stages.scoring.metrics import Floats, Ints, log_probabilities, softmax
from stages.scoring.temperature import fit_temperature, one_hot, scale

Space = Literal["probabilities", "logits"]
Weights = tuple[float, ...]


@dataclass(frozen=True)
class Resampling:
    """Folds and bootstrap draws. The same groups always get the same ones: that pairs models."""

    settings: Calibrate
    seed: int

    def resamples(self, groups: Iterable[str]) -> Resamples:
        """Draw whole groups, given the group of each row (N,)."""
        samples = self.settings.bootstrap_samples
        return _resamples(tuple(groups), samples=samples, seed=self.seed)

    def fold_of(self, groups: Iterable[str]) -> Ints:
        """Number the fold of each row, (N,); rows of a group share theirs.

        If there are fewer groups than folds, each group is a fold of its own.
        """
        names, position = np.unique(np.asarray(tuple(groups), dtype=str), return_inverse=True)
        random = generator(self.seed, "calibrate", "folds")
        order: Ints = random.permutation(len(names)) % self.settings.folds
        return order[position]


@lru_cache(maxsize=64)
def _resamples(groups: tuple[str, ...], *, samples: int, seed: int) -> Resamples:
    return resample(groups, samples=samples, random=generator(seed, "calibrate", "bootstrap"))


@dataclass(frozen=True)
class Mixing:
    """Weights of the members, or None to search them, and the space that is mixed in."""

    weights: Weights | None
    space: Space = "probabilities"

    def without(self, member: int) -> "Mixing":
        """Leave a member out: given weights keep their proportions, searched ones stay searched."""
        if self.weights is None:
            return self
        rest = self.weights[:member] + self.weights[member + 1 :]
        total = sum(rest)
        weights = tuple(weight / total if total else 1 / len(rest) for weight in rest)
        return Mixing(weights, self.space)


def fuse(members: Floats, weights: Weights, *, space: Space) -> Floats:
    """Mix members' probabilities (M, N, C) into (N, C) with weights that sum to 1.

    In the space of probabilities `sum_i w_i p_i`, in that of logits `softmax(sum_i w_i z_i)`, which
    is the same for `z_i = log p_i`.
    """
    if space == "logits":
        return softmax(np.tensordot(np.asarray(weights), log_probabilities(members), axes=1))
    mixed: Floats = np.tensordot(np.asarray(weights), members, axes=1)
    return mixed


def search_weights(members: Floats, targets: Ints, *, space: Space) -> Weights:
    """Search the weights with the least NLL on these rows, to three digits.

    A mixture of logits is searched over the weights and a temperature: `sum_i b_i z_i` with
    `b_i >= 0` holds both, `w = b / sum b` and `T = 1 / sum b`. Both problems are convex. If a
    mixture of logits is right on every row, the scales grow without end; their proportions still
    serve, and the fit of the temperature says that there is none.
    """
    if (num := len(members)) == 1:
        return (1.0,)
    logits, rows = log_probabilities(members), np.arange(len(targets))
    target_logits, target_shares = logits[:, rows, targets], members[:, rows, targets]

    def nll_of_logits(scales: Floats) -> tuple[float, Floats]:
        mixed = np.tensordot(scales, logits, axes=1)
        loss = logsumexp(mixed, axis=1) - scales @ target_logits
        expected = np.einsum("nc,mnc->mn", softmax(mixed), logits)
        return float(loss.mean()), (expected - target_logits).mean(axis=1)

    def nll_of_probabilities(weights: Floats) -> tuple[float, Floats]:
        mixed = np.maximum(weights @ target_shares, np.finfo(np.float64).tiny)
        return float(-np.log(mixed).mean()), -(target_shares / mixed).mean(axis=1)

    if space == "logits":
        # From 0: a teacher that says nothing stays there.
        start, bounds = np.zeros(num), [(0, None)] * num
        optimum = minimize(nll_of_logits, start, jac=True, method="L-BFGS-B", bounds=bounds)
    else:
        # Of several minima this finds the one nearest to equal weights.
        optimum = minimize(
            nll_of_probabilities,
            np.full(num, 1 / num),
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * num,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
            options={"ftol": 1e-10, "maxiter": 500},
        )
    scales = np.asarray(optimum.x) if optimum.x.sum() > 0 else np.ones(num)
    weights = np.round(scales / scales.sum(), 3)
    weights[weights.argmax()] += 1 - weights.sum()
    return tuple(round(float(weight), 3) for weight in weights)


@dataclass(frozen=True)
class Probabilities:
    """Probabilities of the same rows before and after calibration, each (N, 7).

    `crowd` is scaled by the temperature for votes, and NaN where there is none.
    """

    raw: Floats
    calibrated: Floats
    crowd: Floats

    def only(self, mask: Mask) -> "Probabilities":
        """Keep the rows of the mask (N,)."""
        return Probabilities(self.raw[mask], self.calibrated[mask], self.crowd[mask])


@dataclass(frozen=True)
class Calibration:
    """Fitted numbers: `p = softmax(log(mixture) / temperature + class_bias)`.

    `votes_temperature` is fitted to the crowd's votes instead; None where there are too few. Where
    a temperature is no fit it is 1, and its `no_fit` says why.
    """

    weights: Weights
    temperature: float
    space: Space = "probabilities"
    class_bias: ClassBias = NO_BIAS
    votes_temperature: float | None = None
    temperature_no_fit: str | None = None
    votes_temperature_no_fit: str | None = None

    def apply(self, members: Floats) -> Probabilities:
        """Mix, then scale, any rows (M, N, 7) of the same members."""
        raw = fuse(members, self.weights, space=self.space)
        scaled = Scaling(self.temperature, self.class_bias).apply(log_probabilities(raw))
        if self.votes_temperature is None:
            return Probabilities(raw, scaled, np.full_like(raw, np.nan))
        return Probabilities(raw, scaled, scale(raw, self.votes_temperature))


def fit(
    members: Floats, rows: pd.DataFrame, *, mixing: Mixing, resampling: Resampling
) -> tuple[Calibration, Trial]:
    """Fit weights, temperatures and bias on these manifest rows (M, N, 7) and no others.

    A bias stands beside the temperature if its trial by folds adopts it and all rows fit both.
    """
    targets, shares, groups = targets_of(rows), shares_of(rows), rows["group"]
    weights = mixing.weights or search_weights(members, targets, space=mixing.space)
    logits = log_probabilities(fuse(members, weights, space=mixing.space))
    majority, votes = fit_temperature(logits, one_hot(targets)), None
    scaling = Scaling(majority.value)
    if majority.no_fit:
        trial = untried(f"no temperature: {majority.no_fit}")
    else:
        fold, resamples = resampling.fold_of(groups), resampling.resamples(groups)
        trial = try_bias(logits, targets, fold=fold, resamples=resamples)
    if trial.adopted:
        refined = fit_scaling(logits, targets, directions=PER_CLASS, start=majority.value)
        if refined is None:
            trial = replace(trial, adopted=False, reason=NO_OPTIMUM)
        scaling = refined or scaling
    voted = ~np.isnan(shares[:, 0])
    if groups[voted].nunique() >= resampling.settings.folds:
        votes = fit_temperature(logits[voted], shares[voted])
    calibration = Calibration(
        weights=weights,
        temperature=scaling.temperature,
        space=mixing.space,
        class_bias=scaling.class_bias,
        votes_temperature=votes.value if votes else None,
        temperature_no_fit=majority.no_fit,
        votes_temperature_no_fit=votes.no_fit if votes else None,
    )
    return calibration, trial


def crossfit(
    members: Floats, rows: pd.DataFrame, *, mixing: Mixing, resampling: Resampling
) -> tuple[Probabilities, list[Calibration]]:
    """Calibrate each fold of the rows by a fit on the other folds; return all these fits too."""
    fold = resampling.fold_of(rows["group"])
    result = Probabilities(*np.empty((3, *members[0].shape)))
    calibrations = []
    for held in np.unique(fold):
        out = fold == held
        calibration, _ = fit(members[:, ~out], rows[~out], mixing=mixing, resampling=resampling)
        applied = calibration.apply(members[:, out])
        result.raw[out], result.calibrated[out] = applied.raw, applied.calibrated
        result.crowd[out] = applied.crowd
        calibrations.append(calibration)
    return result, calibrations


def no_fits(calibrations: Sequence[Calibration]) -> str:
    """Say which temperatures are no fit, of one calibration or of all folds; empty if all fit.

    It also counts folds whose other folds have too few votes: no number of votes holds their rows.
    """
    num, lacking = len(calibrations), []
    for what, key in (
        ("no fit", "temperature_no_fit"),
        ("no fit to votes", "votes_temperature_no_fit"),
    ):
        if count := sum(getattr(fitted, key) is not None for fitted in calibrations):
            lacking.append(what if num == 1 else f"{what} in {count} of {num} folds")
    parts = [f"{', '.join(lacking)}: T = 1"] if lacking else []
    unvoted = sum(fitted.votes_temperature is None for fitted in calibrations)
    if 0 < unvoted < num:
        parts.append(f"no fit to votes for {unvoted} of {num} folds: too few")
    return "; ".join(parts)
