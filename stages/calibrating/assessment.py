"""Published teachers and the manifest -> what each model is fitted to and what it says where.

A model is a teacher or a fusion of the teachers of one stage. Everything is fitted on the stage's
val rows only; it is reported on test rows, val rows of other folds, or gate rows.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.calibrating.blocks import Evidence, Reported
from stages.calibrating.calibration import (
    Calibration,
    Fitted,
    Observed,
    Pair,
    crossfit,
    fit,
    no_fits,
)
from stages.calibrating.fusion import fuse
from stages.calibrating.model import Model
from stages.calibrating.protocol import Protocol
from stages.calibrating.refinement import NO_BIAS, Refinement, Scaling, changes, scaling_interval
from stages.calibrating.stage_rows import Account, StageRows
from stages.config import CLASSES
from stages.records.folder import MANIFEST_FILE
from stages.runtime.errors import UserError
from stages.scoring.bootstrap import Interval
from stages.scoring.metrics import Floats, log_probabilities
from stages.scoring.temperature import one_hot, temperature_interval

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TemperatureIntervals:
    """95 % bootstrap intervals of the temperatures; None where there is no such T, or no fit."""

    majority: Interval | None
    votes: Interval | None


@dataclass(frozen=True)
class Assessment:
    """A model, what was fitted on its val rows, and the evidence in domain and at each gate.

    `admitted` are the ids that the filter of its stage lets through; `by_folds` are val rows, each
    calibrated by folds that it is not in, of no row where val has fewer groups than folds.
    """

    model: Model
    fitted: Fitted
    refinement: Refinement
    intervals: TemperatureIntervals
    val: Account
    by_folds: Reported
    reported: Reported
    gates: Mapping[str, Reported]
    admitted: frozenset[str]

    @property
    def calibration(self) -> Calibration:
        """Weights, temperature and bias."""
        return self.fitted.calibration

    @property
    def in_domain(self) -> Evidence:
        """The rows of the stage's filter that had no part in training or fitting."""
        return self.reported.evidence

    @property
    def votes_n(self) -> int:
        """How many val rows the temperature for votes was fitted on."""
        if self.calibration.votes_temperature is None:
            return 0
        return int(self.model.observed(self.val).has_votes.sum())

    def in_domain_at(self, gate: str) -> int:
        """How many rows of a gate the filter of the stage admits: they are no other data."""
        return int(self.gates[gate].evidence.rows["id"].isin(self.admitted).sum())


def assess(model: Model, *, rows: StageRows, protocol: Protocol) -> Assessment:
    """Fit the model on val and gather what it says of the rows it is reported on.

    Temperatures that are no fit are warned about.

    Raises:
        UserError: if the manifest lacks the rows.
    """
    val = _required(model.unseen(rows.val), split="val", model=model)
    observed = model.observed(val)
    fitted = fit(observed, mixing=model.mixing, protocol=protocol)
    calibration = fitted.calibration
    by_folds, of_folds = _by_folds(model, val, protocol=protocol)
    _warn_of_no_fits(model, calibration, of_folds=of_folds)
    return Assessment(
        model=model,
        fitted=fitted,
        refinement=changes(
            fitted.trial,
            n=len(val.rows),
            resamples=protocol.resamples(observed.groups),
            bins=protocol.bins,
        ),
        intervals=_temperature_intervals(observed, calibration, protocol=protocol),
        val=val,
        by_folds=by_folds,
        reported=(
            by_folds
            if protocol.report == "val_crossfit"
            else _on_test(model, rows, calibration=calibration)
        ),
        gates={
            name: _report(model, gate, calibration=calibration, name=name)
            for name, gate in rows.gates.items()
        },
        admitted=rows.admitted,
    )


def in_domain_evidence(model: Model, *, rows: StageRows, protocol: Protocol) -> Evidence:
    """What the model, fitted on val, says of the rows it is reported on in domain."""
    if protocol.report == "val_crossfit":
        return held_out_val(model, rows=rows, protocol=protocol)
    return fitted_evidence(model, rows={"test": rows.test}, val=rows.val, protocol=protocol)["test"]


def fitted_evidence(
    model: Model, *, rows: Mapping[str, Account], val: Account, protocol: Protocol
) -> dict[str, Evidence]:
    """What the model, fitted on these val rows, says of other rows, by their name."""
    observed = model.observed(model.unseen(val))
    fitted = fit(observed, mixing=model.mixing, protocol=protocol)
    return {
        name: _report(model, account, calibration=fitted.calibration, name=name).evidence
        for name, account in rows.items()
    }


def held_out_val(model: Model, *, rows: StageRows, protocol: Protocol) -> Evidence:
    """What the model says of its val rows, each calibrated by folds that it is not in."""
    evidence, _ = _crossfitted(model, model.unseen(rows.val), protocol=protocol)
    return evidence


def no_evidence(model: Model, account: Account, *, fitted_on: str, reported_on: str) -> Evidence:
    """What the model says of none of the rows."""
    empty = np.empty((0, len(CLASSES)))
    pair = Pair(empty, empty, empty)
    return Evidence(account.rows[:0], pair, fitted_on, reported_on, model.weights_sha256)


def _by_folds(
    model: Model, val: Account, *, protocol: Protocol
) -> tuple[Reported, list[Calibration]]:
    """Val by folds; with too few groups of nothing, or an error if it is what is reported."""
    if protocol.report == "test" and val.rows["group"].nunique() < protocol.folds:
        evidence = no_evidence(model, val, fitted_on="val", reported_on="val")
        calibrations: list[Calibration] = []
    else:
        evidence, calibrations = _crossfitted(model, val, protocol=protocol)
    return Reported(evidence, evidence, val.left_out), calibrations


def _crossfitted(
    model: Model, val: Account, *, protocol: Protocol
) -> tuple[Evidence, list[Calibration]]:
    pair, calibrations = crossfit(model.observed(val), mixing=model.mixing, protocol=protocol)
    fitted_on = f"val, other {protocol.folds - 1} of {protocol.folds} folds{no_fits(calibrations)}"
    return Evidence(val.rows, pair, fitted_on, "val", model.weights_sha256), calibrations


def _on_test(model: Model, rows: StageRows, *, calibration: Calibration) -> Reported:
    _required(model.unseen(rows.test), split="test", model=model)
    return _report(model, rows.test, calibration=calibration, name="test")


def _report(model: Model, account: Account, *, calibration: Calibration, name: str) -> Reported:
    pair = calibration.apply(model.members(account))
    fitted_on = f"val{no_fits([calibration])}"
    whole = Evidence(account.rows, pair, fitted_on, name, model.weights_sha256)
    left_out = model.unseen(account).left_out
    return Reported(whole.only(~model.seen(account)), whole, left_out)


def _temperature_intervals(
    observed: Observed, calibration: Calibration, *, protocol: Protocol
) -> TemperatureIntervals:
    mixed = fuse(observed.members, calibration.weights, space=calibration.space)
    logits = log_probabilities(mixed)
    majority = _majority_interval(observed, logits, calibration=calibration, protocol=protocol)
    if calibration.votes_temperature is None or calibration.votes_temperature_no_fit:
        return TemperatureIntervals(majority, None)
    voted = observed.has_votes
    to_votes = temperature_interval(
        logits[voted],
        observed.shares[voted],
        temperature=calibration.votes_temperature,
        resamples=protocol.resamples(observed.groups[voted].tolist()),
    )
    return TemperatureIntervals(majority, to_votes)


def _majority_interval(
    observed: Observed, logits: Floats, *, calibration: Calibration, protocol: Protocol
) -> Interval | None:
    if calibration.temperature_no_fit:
        return None
    resamples = protocol.resamples(observed.groups.tolist())
    if calibration.class_bias != NO_BIAS:
        scaling = Scaling(calibration.temperature, calibration.class_bias)
        return scaling_interval(logits, observed.targets, scaling=scaling, resamples=resamples)
    return temperature_interval(
        logits,
        one_hot(observed.targets),
        temperature=calibration.temperature,
        resamples=resamples,
    )


def _warn_of_no_fits(
    model: Model, calibration: Calibration, *, of_folds: Sequence[Calibration]
) -> None:
    place = f"models/{model.stage}: {model.name}"
    if reason := calibration.temperature_no_fit:
        logger.warning("%s: no fit on val, temperature 1 and no bias: %s", place, reason)
    elif told := no_fits(of_folds):
        logger.warning("%s: val by folds%s", place, told)
    if reason := calibration.votes_temperature_no_fit:
        logger.warning("%s: no fit to the votes of val, temperature 1: %s", place, reason)


def _required(account: Account, *, split: str, model: Model) -> Account:
    if account.rows.empty:
        remedy = "set calibrate.report: val_crossfit or " if split == "test" else ""
        left_out = "".join(f", {n} left out: {why}" for why, n in account.left_out.items() if n)
        raise UserError(
            f"params.yaml: calibrate.report: needs {split} rows of {model.stage}.filter, "
            f"manifests/{MANIFEST_FILE} has none{left_out}; {remedy}give the manifest a {split} "
            f"split (manifest.{split}_share)"
        )
    return account
