"""Members' probabilities on val -> fusion weights, temperature and class bias; once or by folds.

A single teacher is a fusion of one. First the members are mixed, then the mixture is scaled, then
the bias is added where it was adopted. Rows that fit no temperature are no error: T is 1, without a
bias, and what is calibrated so says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stages.calibrating.fusion import Space, Weights, fuse, search_weights
from stages.calibrating.protocol import Protocol
from stages.calibrating.refinement import (
    NO_BIAS,
    NO_OPTIMUM,
    ClassBias,
    Scaling,
    Trial,
    fit_scaling,
    try_bias,
    untried,
)
from stages.runtime.errors import UserError
from stages.scoring.metrics import Floats, Ints, log_probabilities
from stages.scoring.temperature import Temperature, fit_temperature, one_hot, scale

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """The same rows before and after calibration, each (N, 7).

    `to_votes` is scaled by the temperature for votes, and NaN where there is none.
    """

    raw: Floats
    scaled: Floats
    to_votes: Floats

    def only(self, mask: Mask) -> "Pair":
        """The rows of the mask (N,)."""
        return Pair(self.raw[mask], self.scaled[mask], self.to_votes[mask])


@dataclass(frozen=True)
class Calibration:
    """What was fitted: `p = softmax(log(mixture) / temperature + class_bias)`.

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

    def apply(self, members: Floats) -> Pair:
        """Mix, then scale, any rows (M, N, 7) of the same members."""
        raw = fuse(members, self.weights, space=self.space)
        logits = log_probabilities(raw)
        scaled = Scaling(self.temperature, self.class_bias).apply(logits)
        if self.votes_temperature is None:
            return Pair(raw, scaled, np.full_like(raw, np.nan))
        return Pair(raw, scaled, scale(raw, self.votes_temperature))


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
        """Which rows (N,) the crowd voted on."""
        return ~np.isnan(self.shares[:, 0])

    def only(self, mask: Mask) -> "Observed":
        """The rows of the mask (N,)."""
        kept = (self.members[:, mask], self.targets[mask], self.shares[mask], self.groups[mask])
        return Observed(*kept)


@dataclass(frozen=True)
class Mixing:
    """What is mixed, with which weights; None are searched."""

    weights: Weights | None
    space: Space = "probabilities"

    def weights_for(self, members: Floats, targets: Ints) -> Weights:
        """The weights that are given, or those that fit these rows best."""
        if self.weights is not None:
            return self.weights
        return search_weights(members, targets, space=self.space)


@dataclass(frozen=True)
class Fitted:
    """A calibration, and what became of the bias per class."""

    calibration: Calibration
    trial: Trial


def fit(observed: Observed, *, mixing: Mixing, protocol: Protocol) -> Fitted:
    """Fit weights, temperatures and bias on these rows and no others."""
    weights = mixing.weights_for(observed.members, observed.targets)
    mixed = fuse(observed.members, weights, space=mixing.space)
    logits = log_probabilities(mixed)
    majority = fit_temperature(logits, one_hot(observed.targets))
    scaling, trial = _scaling(observed, logits, temperature=majority, protocol=protocol)
    votes = _votes_temperature(observed, logits, protocol=protocol)
    calibration = Calibration(
        weights=weights,
        temperature=scaling.temperature,
        space=mixing.space,
        class_bias=scaling.class_bias,
        votes_temperature=None if votes is None else votes.value,
        temperature_no_fit=majority.no_fit,
        votes_temperature_no_fit=None if votes is None else votes.no_fit,
    )
    return Fitted(calibration, trial)


def crossfit(
    observed: Observed, *, mixing: Mixing, protocol: Protocol
) -> tuple[Pair, list[Calibration]]:
    """Calibrate each fold of the rows by what was fitted on the other folds, with all these fits.

    A fold whose other folds fit no temperature is calibrated with T = 1, as such rows always are.

    Raises:
        UserError: if there are fewer groups than folds.
    """
    require_folds(observed.groups, protocol=protocol)
    fold = protocol.fold_of(observed.groups)
    raw, scaled, to_votes = np.empty((3, *observed.members[0].shape))
    calibrations = []
    for held in np.unique(fold):
        out = fold == held
        calibration = fit(observed.only(~out), mixing=mixing, protocol=protocol).calibration
        pair = calibration.apply(observed.members[:, out])
        raw[out], scaled[out], to_votes[out] = pair.raw, pair.scaled, pair.to_votes
        calibrations.append(calibration)
    return Pair(raw, scaled, to_votes), calibrations


def no_fits(calibrations: Sequence[Calibration]) -> str:
    """Which temperatures are no fit, of one calibration or of those by folds; empty if all fit.

    A fold whose other folds have too few votes is told too: its rows are in no number of votes.
    """
    num = len(calibrations)
    lacking = {
        "no fit": sum(one.temperature_no_fit is not None for one in calibrations),
        "no fit to votes": sum(one.votes_temperature_no_fit is not None for one in calibrations),
    }
    told = [
        what if num == 1 else f"{what} in {count} of {num} folds"
        for what, count in lacking.items()
        if count
    ]
    unvoted = sum(one.votes_temperature is None for one in calibrations)
    lost = f" (no fit to votes for {unvoted} of {num} folds: too few)" if 0 < unvoted < num else ""
    return (f" ({', '.join(told)}: T = 1)" if told else "") + lost


def require_folds(groups: npt.NDArray[np.str_], *, protocol: Protocol) -> None:
    """Refuse rows of fewer groups than folds.

    Raises:
        UserError: naming the key.
    """
    if (found := len(np.unique(groups))) < protocol.folds:
        raise UserError(
            f"params.yaml: calibrate.folds: {protocol.folds} folds need as many groups of val "
            f"rows, found {found}"
        )


def _scaling(
    observed: Observed, logits: Floats, *, temperature: Temperature, protocol: Protocol
) -> tuple[Scaling, Trial]:
    """The temperature of all rows; with a bias beside it if the trial by folds adopts one."""
    if temperature.no_fit:
        return Scaling(temperature.value), untried(f"no temperature: {temperature.no_fit}")
    trial = try_bias(
        logits,
        observed.targets,
        fold=protocol.fold_of(observed.groups),
        resamples=protocol.resamples(observed.groups),
    )
    if not trial.adopted:
        return Scaling(temperature.value), trial
    refined = fit_scaling(logits, observed.targets, start=temperature.value)
    if refined is None:
        return Scaling(temperature.value), replace(trial, adopted=False, reason=NO_OPTIMUM)
    return refined, trial


def _votes_temperature(
    observed: Observed, logits: Floats, *, protocol: Protocol
) -> Temperature | None:
    voted = observed.has_votes
    if len(np.unique(observed.groups[voted])) < protocol.folds:
        return None
    return fit_temperature(logits[voted], observed.shares[voted])
