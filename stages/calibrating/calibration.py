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
import numpy.typing as npt

from stages.calibrating.fusion import Mixing, Space, Weights, fuse
from stages.calibrating.refinement import (
    NO_BIAS,
    NO_OPTIMUM,
    ClassBias,
    Scaling,
    Trial,
    fit_scaling,
    scaling_interval,
    try_bias,
    untried,
)
from stages.config import Calibrate
from stages.runtime.errors import UserError
from stages.runtime.seed import generator
from stages.scoring.bootstrap import Interval, Resamples, resample
from stages.scoring.metrics import Floats, Ints, log_probabilities
from stages.scoring.temperature import fit_temperature, one_hot, scale, temperature_interval

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Resampling:
    """Folds and bootstrap draws. The same groups always get the same ones: that pairs models."""

    report: Literal["test", "val_crossfit"]
    bins: int
    folds: int
    bootstrap_samples: int
    seed: int

    def resamples(self, groups: Iterable[str]) -> Resamples:
        """Draw whole groups, given the group of each row (N,)."""
        return _resamples(tuple(groups), samples=self.bootstrap_samples, seed=self.seed)

    def fold_of(self, groups: Iterable[str]) -> Ints:
        """Number the fold 0..folds-1 of each row, (N,); rows of a group share theirs.

        If there are fewer groups than folds, each group is a fold of its own.
        """
        names, position = np.unique(np.asarray(tuple(groups), dtype=str), return_inverse=True)
        random = generator(self.seed, "calibrate", "folds")
        order: Ints = random.permutation(len(names)) % self.folds
        return order[position]


@lru_cache(maxsize=64)
def _resamples(groups: tuple[str, ...], *, samples: int, seed: int) -> Resamples:
    return resample(groups, samples=samples, random=generator(seed, "calibrate", "bootstrap"))


def resampling_of(settings: Calibrate, *, seed: int) -> Resampling:
    """Take folds and draws from params.yaml."""
    return Resampling(
        report=settings.report,
        bins=settings.bins,
        folds=settings.folds,
        bootstrap_samples=settings.bootstrap_samples,
        seed=seed,
    )


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
        logits = log_probabilities(raw)
        scaled = Scaling(self.temperature, self.class_bias).apply(logits)
        if self.votes_temperature is None:
            return Probabilities(raw, scaled, np.full_like(raw, np.nan))
        return Probabilities(raw, scaled, scale(raw, self.votes_temperature))


@dataclass(frozen=True)
class Observed:
    """Rows to fit on: members' probabilities (M, N, 7), class numbers (N,) and groups (N,).

    `shares` (N, 7) are the crowd's votes, NaN in rows without.
    """

    members: Floats
    targets: Ints
    shares: Floats
    groups: npt.NDArray[np.str_]

    @property
    def has_votes(self) -> Mask:
        """Mark the rows (N,) that the crowd voted on."""
        return ~np.isnan(self.shares[:, 0])

    def only(self, mask: Mask) -> "Observed":
        """Keep the rows of the mask (N,)."""
        kept = (self.members[:, mask], self.targets[mask], self.shares[mask], self.groups[mask])
        return Observed(*kept)


def fit(observed: Observed, *, mixing: Mixing, resampling: Resampling) -> tuple[Calibration, Trial]:
    """Fit weights, temperatures and bias on these rows and no others.

    A bias stands beside the temperature if its trial by folds adopts it and all rows fit both.
    """
    weights = mixing.weights_for(observed.members, observed.targets)
    logits = log_probabilities(fuse(observed.members, weights, space=mixing.space))
    majority = fit_temperature(logits, one_hot(observed.targets))
    scaling = Scaling(majority.value)
    if majority.no_fit:
        trial = untried(f"no temperature: {majority.no_fit}")
    else:
        trial = try_bias(
            logits,
            observed.targets,
            fold=resampling.fold_of(observed.groups),
            resamples=resampling.resamples(observed.groups),
        )
    if trial.adopted:
        refined = fit_scaling(logits, observed.targets, start=majority.value)
        if refined is None:
            trial = replace(trial, adopted=False, reason=NO_OPTIMUM)
        else:
            scaling = refined
    voted, votes = observed.has_votes, None
    if len(np.unique(observed.groups[voted])) >= resampling.folds:
        votes = fit_temperature(logits[voted], observed.shares[voted])
    calibration = Calibration(
        weights=weights,
        temperature=scaling.temperature,
        space=mixing.space,
        class_bias=scaling.class_bias,
        votes_temperature=None if votes is None else votes.value,
        temperature_no_fit=majority.no_fit,
        votes_temperature_no_fit=None if votes is None else votes.no_fit,
    )
    return calibration, trial


def crossfit(
    observed: Observed, *, mixing: Mixing, resampling: Resampling
) -> tuple[Probabilities, list[Calibration]]:
    """Calibrate each fold of the rows by a fit on the other folds; return all these fits too.

    If the other folds fit no temperature, the fold is calibrated with T = 1.

    Raises:
        UserError: if there are fewer groups than folds.
    """
    if (num_groups := len(np.unique(observed.groups))) < resampling.folds:
        raise UserError(
            f"params.yaml: calibrate.folds: {resampling.folds} folds need as many groups of val "
            f"rows, found {num_groups}"
        )
    fold = resampling.fold_of(observed.groups)
    raw, calibrated, crowd = np.empty((3, *observed.members[0].shape))
    calibrations = []
    for held in np.unique(fold):
        out = fold == held
        calibration, _ = fit(observed.only(~out), mixing=mixing, resampling=resampling)
        applied = calibration.apply(observed.members[:, out])
        raw[out], calibrated[out] = applied.raw, applied.calibrated
        crowd[out] = applied.crowd
        calibrations.append(calibration)
    return Probabilities(raw, calibrated, crowd), calibrations


def no_fits(calibrations: Sequence[Calibration]) -> str:
    """Say which temperatures are no fit, of one calibration or of all folds; empty if all fit.

    It also counts folds whose other folds have too few votes: no number of votes holds their rows.
    """
    num = len(calibrations)
    counts = {
        "no fit": sum(fitted.temperature_no_fit is not None for fitted in calibrations),
        "no fit to votes": sum(f.votes_temperature_no_fit is not None for f in calibrations),
    }
    lacking = [
        what if num == 1 else f"{what} in {count} of {num} folds"
        for what, count in counts.items()
        if count
    ]
    unvoted = sum(fitted.votes_temperature is None for fitted in calibrations)
    parts = [f"{', '.join(lacking)}: T = 1"] if lacking else []
    if 0 < unvoted < num:
        parts.append(f"no fit to votes for {unvoted} of {num} folds: too few")
    return "; ".join(parts)


def temperature_intervals(
    observed: Observed, calibration: Calibration, *, resampling: Resampling
) -> tuple[Interval | None, Interval | None]:
    """Return 95 % bootstrap intervals of the temperatures for the majority label and for votes.

    None where there is no such temperature, or no fit.
    """
    mixed = fuse(observed.members, calibration.weights, space=calibration.space)
    logits = log_probabilities(mixed)
    majority = votes = None
    if not calibration.temperature_no_fit:
        scaling = Scaling(calibration.temperature, calibration.class_bias)
        resamples = resampling.resamples(observed.groups)
        if scaling.class_bias != NO_BIAS:
            majority = scaling_interval(
                logits, observed.targets, scaling=scaling, resamples=resamples
            )
        else:
            shares = one_hot(observed.targets)
            majority = temperature_interval(
                logits, shares, temperature=scaling.temperature, resamples=resamples
            )
    if calibration.votes_temperature is not None and not calibration.votes_temperature_no_fit:
        voted = observed.has_votes
        votes = temperature_interval(
            logits[voted],
            observed.shares[voted],
            temperature=calibration.votes_temperature,
            resamples=resampling.resamples(observed.groups[voted]),
        )
    return majority, votes
