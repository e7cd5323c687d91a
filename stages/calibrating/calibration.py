"""Members' logits on val -> prior, fusion weights, temperatures, bias, decision; once or by folds.

A single teacher is a fusion of one. First what training did to the class prior is taken back in
each member, then the members are mixed, then the mixture is scaled and the bias added. Rows that
fit no temperature are no error: T is 1, without a bias, and what is calibrated so says why.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd

from stages.calibrating.decision import ExponentTrial, name_classes, try_exponents
from stages.calibrating.fusion import Mixing, Space, Weights, correct, fuse, search_weights
from stages.calibrating.published import Mask
from stages.calibrating.refinement import (
    NOT_FITTED,
    Trial,
    class_shares,
    fit_refinement,
    try_refinements,
    untried,
)
from stages.calibrating.scaling import ClassNumbers, Scaling
from stages.config import Calibrate
from stages.records.schema import shares_of, targets_of
from stages.runtime.seed import generator
from stages.scoring.bootstrap import Resamples, resample
from stages.scoring.metrics import Floats, Ints, log_probabilities, softmax
from stages.scoring.temperature import NO_BIAS, fit_temperature, one_hot


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
class Outputs:
    """What a calibrated model says of rows: probabilities (N, 7) and classes (N,).

    `raw` is the mixture of the members as they were trained. `crowd` is scaled by the crowd's
    temperature, and NaN where there is none. `named` is the class that the model names;
    `named_for_f1` the class by the exponent with the best macro-F1 on val, taken or not.
    """

    raw: Floats
    calibrated: Floats
    crowd: Floats
    named: Ints
    named_for_f1: Ints

    def only(self, mask: Mask) -> "Outputs":
        """Keep the rows of the mask (N,)."""
        return Outputs(*(values[mask] for values in vars(self).values()))


def no_outputs(num_rows: int) -> Outputs:
    """Make outputs to be filled in."""
    floats, ints = (num_rows, 7), np.zeros((2, num_rows), dtype=np.int64)
    return Outputs(*(np.full(floats, np.nan) for _ in range(3)), *ints)


@dataclass(frozen=True)
class Calibration:
    """Fitted numbers of members with logits z_i and corrections v_i.

    The mixture is that of `softmax(z_i + v_i)` by weights; `p = softmax(log(mixture) / temperature
    + class_bias)`; the class is `argmax p / val_shares ** exponent`. For the crowd's votes only
    the temperature differs; it is None where too few rows have votes. Where a temperature is no fit
    it is 1, and its `no_fit` says why. `f1_exponent` has the best macro-F1 on val.
    """

    weights: Weights
    corrections: tuple[ClassNumbers, ...]
    temperature: float
    val_shares: ClassNumbers
    space: Space = "probabilities"
    class_bias: ClassNumbers = NO_BIAS
    exponent: float = 0.0
    f1_exponent: float = 0.0
    temperature_no_fit: str | None = None
    crowd_temperature: float | None = None
    crowd_temperature_no_fit: str | None = None

    @property
    def decision(self) -> Literal["argmax", "prior"]:
        """How the class is named: the most probable one, or by the prior."""
        return "prior" if self.exponent else "argmax"

    def mix(self, logits: Floats) -> Floats:
        """Correct and mix the members' logits (M, N, 7); return log probabilities (N, 7)."""
        members = correct(logits, self.corrections)
        return log_probabilities(fuse(members, self.weights, space=self.space))

    def apply(self, logits: Floats) -> Outputs:
        """Calibrate any rows of the same members, given their logits (M, N, 7)."""
        mixture, shares = self.mix(logits), np.asarray(self.val_shares)
        calibrated = Scaling(self.temperature, self.class_bias).apply(mixture)
        crowd = np.full_like(calibrated, np.nan)
        if self.crowd_temperature is not None:
            crowd = Scaling(self.crowd_temperature, self.class_bias).apply(mixture)
        return Outputs(
            raw=fuse(softmax(logits), self.weights, space=self.space),
            calibrated=calibrated,
            crowd=crowd,
            named=name_classes(calibrated, shares, exponent=self.exponent),
            named_for_f1=name_classes(calibrated, shares, exponent=self.f1_exponent),
        )


@dataclass(frozen=True)
class Fit:
    """A calibration, and the trials that chose its refinement and its decision."""

    calibration: Calibration
    trial: Trial
    exponents: ExponentTrial


def fit(logits: Floats, rows: pd.DataFrame, *, mixing: Mixing, resampling: Resampling) -> Fit:
    """Fit everything on these manifest rows (M, N, 7) and no others."""
    settings = resampling.settings
    targets, shares, groups = targets_of(rows), shares_of(rows), rows["group"]
    members, space = correct(logits, mixing.corrections), mixing.space
    weights = mixing.weights or search_weights(members, targets, space=space)
    mixture = log_probabilities(fuse(members, weights, space=space))
    fold, resamples = resampling.fold_of(groups), resampling.resamples(groups)
    majority = fit_temperature(mixture, one_hot(targets))
    trial = untried(f"no temperature: {majority.no_fit}")
    if not majority.no_fit:
        asked = settings.refinement
        trial = try_refinements(mixture, targets, asked=asked, fold=fold, resamples=resamples)
    scaling = fit_refinement(trial.taken, mixture, targets)
    if scaling is None:
        scaling = Scaling(majority.value)
        if not majority.no_fit:
            reason = f"{trial.taken} could not be fitted: {NOT_FITTED}"
            trial = Trial("none", reason, trial.held_out, trial.shares)
    exponents = try_exponents(trial, targets, fold=fold, resamples=resamples)
    is_taken = settings.decide_by == "macro_f1" and exponents.gain_is_real
    voted, crowd = ~np.isnan(shares[:, 0]), None
    if groups[voted].nunique() >= settings.folds:
        crowd = fit_temperature(mixture[voted], shares[voted], bias=scaling.class_bias)
    calibration = Calibration(
        weights=weights,
        corrections=mixing.corrections,
        temperature=scaling.temperature,
        val_shares=tuple(class_shares(targets).tolist()),
        space=space,
        class_bias=scaling.class_bias,
        exponent=exponents.exponent if is_taken else 0.0,
        f1_exponent=exponents.exponent,
        temperature_no_fit=majority.no_fit,
        crowd_temperature=crowd.value if crowd else None,
        crowd_temperature_no_fit=crowd.no_fit if crowd else None,
    )
    return Fit(calibration, trial, exponents)


def crossfit(
    logits: Floats, rows: pd.DataFrame, *, mixing: Mixing, resampling: Resampling
) -> tuple[Outputs, list[Calibration]]:
    """Calibrate each fold of the rows by a fit on the other folds; return all these fits too."""
    fold = resampling.fold_of(rows["group"])
    result, calibrations = no_outputs(len(rows)), []
    for held in np.unique(fold):
        out = fold == held
        fitted = fit(logits[:, ~out], rows[~out], mixing=mixing, resampling=resampling)
        applied = fitted.calibration.apply(logits[:, out])
        for name, values in vars(result).items():
            values[out] = getattr(applied, name)
        calibrations.append(fitted.calibration)
    return result, calibrations


def no_fits(calibrations: Sequence[Calibration]) -> str:
    """Say which temperatures are no fit, of one calibration or of all folds; empty if all fit.

    It also counts folds whose other folds have too few votes: no number of votes holds their rows.
    """
    num, lacking = len(calibrations), []
    for what, key in (
        ("no fit", "temperature_no_fit"),
        ("no fit to votes", "crowd_temperature_no_fit"),
    ):
        if count := sum(getattr(fitted, key) is not None for fitted in calibrations):
            lacking.append(what if num == 1 else f"{what} in {count} of {num} folds")
    parts = [f"{', '.join(lacking)}: T = 1"] if lacking else []
    unvoted = sum(fitted.crowd_temperature is None for fitted in calibrations)
    if 0 < unvoted < num:
        parts.append(f"no fit to votes for {unvoted} of {num} folds: too few")
    return "; ".join(parts)
