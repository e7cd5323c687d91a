"""Published teachers and the manifest -> what each model is fitted to and what it says where.

A model is a teacher or a fusion of the teachers of one stage. Everything is fitted on the stage's
val rows only; it is reported on test rows, val rows of other folds, or gate rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.evaluation.blocks import Evidence, Reported
from stages.evaluation.bootstrap import Interval
from stages.evaluation.calibration import (
    Calibration,
    Fitted,
    Mask,
    Mixing,
    Observed,
    crossfit,
    fit,
)
from stages.evaluation.fusion import Weights, fuse
from stages.evaluation.metrics import Floats, log_probabilities, softmax
from stages.evaluation.protocol import Protocol
from stages.evaluation.published import PublishedTeacher
from stages.evaluation.stage_rows import Account, StageRows
from stages.evaluation.temperature import one_hot, temperature_interval
from stages.evaluation.votes import shares_of
from stages.records.folder import MANIFEST_FILE
from stages.records.schema import targets_of
from stages.runtime.errors import UserError

# `calibrate.fusion` -> the name of the model.
FUSED_NAMES = {
    "fixed": "fused_fixed",
    "searched": "fused_searched",
    "fixed_logits": "fused_fixed_logits",
    "searched_logits": "fused_searched_logits",
}
TRAINED_ON = "the row or a copy of it was trained on"


@dataclass(frozen=True)
class Model:
    """One or several teachers of a stage, and how they are mixed."""

    stage: str
    name: str
    teachers: tuple[PublishedTeacher, ...]
    mixing: Mixing

    @property
    def weights_sha256(self) -> tuple[str, ...]:
        """What names the model beyond doubt."""
        return tuple(teacher.weights_sha256 for teacher in self.teachers)

    def observed(self, account: Account) -> Observed:
        """Rows to fit on, as this model sees them."""
        rows = account.rows
        groups = rows["group"].to_numpy(dtype=str)
        return Observed(self.members(account), targets_of(rows), shares_of(rows), groups)

    def members(self, account: Account) -> Floats:
        """Each teacher's raw probabilities (M, N, 7) of these rows."""
        return np.stack([softmax(teacher.logits_of(account.rows)) for teacher in self.teachers])

    def seen(self, account: Account) -> Mask:
        """Which rows (N,), or their copies, some teacher was trained on."""
        by_teacher = np.stack([teacher.seen(account.rows) for teacher in self.teachers])
        return np.asarray(by_teacher.any(axis=0))

    def unseen(self, account: Account) -> Account:
        """The rows that no teacher was trained on."""
        mask = account.rows["id"].isin(account.rows["id"][self.seen(account)])
        return account.without(mask, reason=TRAINED_ON)


@dataclass(frozen=True)
class TemperatureIntervals:
    """95 % bootstrap intervals of the temperatures; `votes` is None where there is no such T."""

    majority: Interval
    votes: Interval | None


@dataclass(frozen=True)
class Assessment:
    """A model, what was fitted on its val rows, and the evidence in domain and at each gate.

    `admitted` are the ids that the filter of its stage lets through.
    """

    model: Model
    fitted: Fitted
    intervals: TemperatureIntervals
    val: Account
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


def single(teacher: PublishedTeacher) -> Model:
    """A teacher by itself."""
    return Model(teacher.stage, teacher.name, (teacher,), Mixing((1.0,)))


def stage_models(
    teachers: Sequence[PublishedTeacher], *, weights: Mapping[str, float]
) -> list[Model]:
    """The teachers of one stage, then their fusions with the given and with searched weights."""
    given = tuple(weights[teacher.name] for teacher in teachers)
    fusions = [fusion(teachers, kind=kind, weights=given) for kind in FUSED_NAMES]
    return [*map(single, teachers), *fusions]


def fusion(teachers: Sequence[PublishedTeacher], *, kind: str, weights: Weights) -> Model:
    """The fusion of a kind, as `calibrate.fusion` names it, of these teachers."""
    mixing = {
        "fixed": Mixing(weights),
        "searched": Mixing(None),
        "fixed_logits": Mixing(weights, "logits"),
        "searched_logits": Mixing(None, "logits"),
    }[kind]
    return Model(teachers[0].stage, FUSED_NAMES[kind], tuple(teachers), mixing)


def assess(model: Model, *, rows: StageRows, protocol: Protocol) -> Assessment:
    """Fit the model on val and gather what it says of the rows it is reported on.

    Raises:
        UserError: if the manifest lacks the rows, or a temperature touches a bound.
    """
    val = _required(model.unseen(rows.val), split="val", model=model)
    observed = model.observed(val)
    fitted = fit(observed, mixing=model.mixing, protocol=protocol, name=_fitted_as(model))
    calibration = fitted.calibration
    return Assessment(
        model=model,
        fitted=fitted,
        intervals=_temperature_intervals(observed, calibration, protocol=protocol),
        val=val,
        reported=_in_domain(model, rows, calibration=calibration, protocol=protocol),
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
    fitted = fit(observed, mixing=model.mixing, protocol=protocol, name=_fitted_as(model))
    return {
        name: _report(model, account, calibration=fitted.calibration, name=name).evidence
        for name, account in rows.items()
    }


def held_out_val(model: Model, *, rows: StageRows, protocol: Protocol) -> Evidence:
    """What the model says of its val rows, each calibrated by folds that it is not in."""
    val = model.unseen(rows.val)
    pair = crossfit(
        model.observed(val), mixing=model.mixing, protocol=protocol, name=_fitted_as(model)
    )
    fitted_on = f"val, other {protocol.folds - 1} of {protocol.folds} folds"
    return Evidence(val.rows, pair, fitted_on, "val", model.weights_sha256)


def _in_domain(
    model: Model, rows: StageRows, *, calibration: Calibration, protocol: Protocol
) -> Reported:
    if protocol.report == "val_crossfit":
        evidence = held_out_val(model, rows=rows, protocol=protocol)
        return Reported(evidence, evidence, model.unseen(rows.val).left_out)
    _required(model.unseen(rows.test), split="test", model=model)
    return _report(model, rows.test, calibration=calibration, name="test")


def _report(model: Model, account: Account, *, calibration: Calibration, name: str) -> Reported:
    pair = calibration.apply(model.members(account))
    whole = Evidence(account.rows, pair, "val", name, model.weights_sha256)
    left_out = model.unseen(account).left_out
    return Reported(whole.only(~model.seen(account)), whole, left_out)


def _temperature_intervals(
    observed: Observed, calibration: Calibration, *, protocol: Protocol
) -> TemperatureIntervals:
    mixed = fuse(observed.members, calibration.weights, space=calibration.space)
    logits = log_probabilities(mixed)
    majority = temperature_interval(
        logits,
        one_hot(observed.targets),
        temperature=calibration.temperature,
        resamples=protocol.resamples(observed.groups.tolist()),
    )
    if calibration.votes_temperature is None:
        return TemperatureIntervals(majority, None)
    voted = observed.has_votes
    to_votes = temperature_interval(
        logits[voted],
        observed.shares[voted],
        temperature=calibration.votes_temperature,
        resamples=protocol.resamples(observed.groups[voted].tolist()),
    )
    return TemperatureIntervals(majority, to_votes)


def _fitted_as(model: Model) -> str:
    return f"models/{model.stage}: {model.name} on val"


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
