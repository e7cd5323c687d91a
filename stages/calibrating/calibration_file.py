"""models/calibrated/calibration.json: everything that was fitted, written and read as one model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.calibrating.calibration import Calibration, Fit, Resampling
from stages.calibrating.published import PublishedTeacher
from stages.calibrating.refinement import Refinement, directions_of, prior_exponent
from stages.calibrating.scaling import Scaling, scaling_intervals
from stages.modeling.card import TeacherCard
from stages.records.schema import shares_of, targets_of
from stages.runtime.errors import UserError
from stages.runtime.files import write_json
from stages.scoring.metrics import Floats
from stages.scoring.temperature import one_hot, temperature_interval

FILE = "calibration.json"
ORDER = (
    "softmax(logits + prior_correction) of each member, fused in `space`; then "
    "softmax(log(fused) / temperature + class_bias); the class is argmax of "
    "probabilities / val_shares ** exponent"
)


def _in_order(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"the low end {ends[0]} is above the high end {ends[1]}")
    return ends


Ends = Annotated[tuple[float, float], AfterValidator(_in_order)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Seven = Annotated[tuple[float, ...], Field(min_length=7, max_length=7)]
Exponent = Annotated[float, Field(ge=0, le=1)]
StageName = Literal["stageA", "stageB"]


class _Entry(BaseModel):
    """Exactly these keys; numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class FusedMember(_Entry):
    """A teacher in a model. `prior_correction` takes back what training did to the class prior.

    `fingerprint` is that of the training run: equal weights of two runs may give other logits.
    """

    weight: Annotated[float, Field(ge=0, le=1)]
    prior_correction: Seven
    weights_sha256: Sha256
    fingerprint: Sha256

    def is_of(self, card: TeacherCard) -> bool:
        """Say if this was fitted on the logits of this teacher."""
        return (self.weights_sha256, self.fingerprint) == (card.weights_sha256, card.fingerprint)


class RefinementChoice(_Entry):
    """Which bias stands beside the temperature, and why. Its changes are in paired.csv.

    `prior_exponent` is the s of a bias `s * log val_shares`; None for another bias or without one.
    """

    taken: Refinement
    reason: Text
    prior_exponent: float | None
    prior_exponent_95: Ends | None


class DecisionChoice(_Entry):
    """The exponent by which a class is named: 0 is the most probable class.

    `f1_exponent` has the best macro-F1 on held-out val rows. It is taken if `calibrate.decide_by`
    asks for macro-F1 and the gain is real; `reason` says how large it is.
    """

    exponent: Exponent
    f1_exponent: Exponent
    gain_is_real: bool
    reason: Text


class ModelCalibration(_Entry):
    """Fitted numbers of a teacher or a fusion. A temperature that is no fit is 1 and says why.

    `crowd_temperature` takes the place of `temperature` for the crowd's votes; None if too few of
    the rows have votes. `class_bias_95` is that of a bias per class. `val_shares` are the class
    shares of the rows that all was fitted on. `left_out` counts the rows of val that were not
    fitted on, by reason. `folds_no_fit` says how many folds of val fit no temperature; empty if
    all do.
    """

    members: Annotated[dict[str, FusedMember], Field(min_length=1)]
    space: Literal["probabilities", "logits"]
    temperature: Positive
    temperature_95: Ends | None
    temperature_no_fit: str | None
    class_bias: Seven
    class_bias_95: tuple[Ends, ...] | None
    crowd_temperature: Positive | None
    crowd_temperature_95: Ends | None
    crowd_temperature_no_fit: str | None
    crowd_n: Count
    val_shares: Seven
    fitted_rows: Annotated[int, Field(ge=1)]
    left_out: dict[str, Count]
    folds_no_fit: str
    refinement: RefinementChoice
    decision: DecisionChoice

    @model_validator(mode="after")
    def _is_fitted_or_says_why_not(self) -> "ModelCalibration":
        if (self.crowd_temperature is None) != (self.crowd_n == 0):
            raise ValueError("crowd_n: expected rows with a crowd_temperature, and 0 without")
        if (self.temperature_95 is None) != (self.temperature_no_fit is not None):
            raise ValueError("expected a temperature_95, or a temperature_no_fit that says why")
        return self

    @property
    def calibration(self) -> Calibration:
        """Return the calibration that these numbers make."""
        numbers = self.model_dump(include=set(Calibration.__dataclass_fields__))
        members = self.members.values()
        return Calibration(
            weights=tuple(member.weight for member in members),
            corrections=tuple(member.prior_correction for member in members),
            exponent=self.decision.exponent,
            f1_exponent=self.decision.f1_exponent,
            **numbers,
        )

    @property
    def weights_sha256(self) -> str:
        """Join the hashes of the members' weights, as in the score table."""
        return "+".join(member.weights_sha256 for member in self.members.values())


class StageModels(_Entry):
    """All models of a stage: its teachers, then its fusions."""

    models: Annotated[dict[str, ModelCalibration], Field(min_length=1)]


class StageChoice(_Entry):
    """Why this stage is taken, and whether the gain of the second stage is real."""

    says: Text
    gain_is_real: bool


class CalibrationFile(_Entry):
    """The whole of calibration.json.

    `stage` is the stage that is taken, `fused_model` the name of the fusion that is exported.
    """

    stage: StageName
    stage_asked: Literal["stageA", "stageB", "auto"]
    decide_by: Literal["accuracy", "macro_f1"]
    verdict: StageChoice
    fusion: Text
    fused_model: Text
    report: Literal["test", "val_crossfit"]
    classes: Annotated[tuple[str, ...], Field(min_length=7, max_length=7)]
    manifest_sha256: Sha256
    fitted_on: Literal["val"]
    order: Text
    temperature_range: Ends
    bins: Count
    bootstrap_samples: Count
    stages: dict[StageName, StageModels]

    @model_validator(mode="after")
    def _has_the_exported_fusion(self) -> "CalibrationFile":
        for stage in ("stageA", "stageB"):
            if stage not in self.stages or self.fused_model not in self.stages[stage].models:
                raise ValueError(f"stages.{stage}.models.{self.fused_model}: missing")
        return self

    @property
    def headline_rows(self) -> Literal["test", "val"]:
        """Return what the column `rows` of in-domain numbers says."""
        return "test" if self.report == "test" else "val"

    @property
    def taken(self) -> dict[str, ModelCalibration]:
        """Return the models of the stage that is taken, by name."""
        return self.stages[self.stage].models

    @property
    def shown(self) -> tuple[str, ...]:
        """Name the models that are scored in full: the teachers, then the exported fusion."""
        return (*self.taken[self.fused_model].members, self.fused_model)


def describe_fit(
    fitted: Fit,
    *,
    logits: Floats,
    rows: pd.DataFrame,
    teachers: Sequence[PublishedTeacher],
    left_out: Mapping[str, int],
    folds_no_fit: str,
    resampling: Resampling,
) -> ModelCalibration:
    """Put what was fitted on these rows (M, N, 7) of M teachers into numbers and intervals."""
    calibration, trial, exponents = fitted.calibration, fitted.trial, fitted.exponents
    mixture, groups = calibration.mix(logits), rows["group"]
    targets, shares = targets_of(rows), shares_of(rows)
    voted = ~np.isnan(shares[:, 0]) & (calibration.crowd_temperature is not None)
    temperature_95 = bias_95 = exponent = exponent_95 = crowd_95 = None
    resamples = resampling.resamples(groups)
    if trial.taken != "none":
        directions = directions_of(trial.taken, targets)
        scaling = Scaling(calibration.temperature, calibration.class_bias)
        intervals = scaling_intervals(
            mixture, targets, directions=directions, scaling=scaling, resamples=resamples
        )
        temperature_95 = intervals.temperature
        if trial.taken == "prior":
            exponent, (exponent_95,) = prior_exponent(scaling, targets), intervals.coefficients
        else:
            bias_95 = intervals.class_bias
    elif not calibration.temperature_no_fit:
        temperature_95 = temperature_interval(
            mixture, one_hot(targets), temperature=calibration.temperature, resamples=resamples
        )
    if calibration.crowd_temperature is not None and not calibration.crowd_temperature_no_fit:
        crowd_95 = temperature_interval(
            mixture[voted],
            shares[voted],
            temperature=calibration.crowd_temperature,
            resamples=resampling.resamples(groups[voted]),
            bias=calibration.class_bias,
        )
    members = zip(teachers, calibration.weights, calibration.corrections, strict=True)
    apart = ("weights", "corrections", "exponent", "f1_exponent")
    return ModelCalibration(
        members={
            teacher.name: FusedMember(
                weight=weight,
                prior_correction=correction,
                weights_sha256=teacher.weights_sha256,
                fingerprint=teacher.fingerprint,
            )
            for teacher, weight, correction in members
        },
        **{name: value for name, value in vars(calibration).items() if name not in apart},
        temperature_95=temperature_95,
        class_bias_95=bias_95,
        crowd_temperature_95=crowd_95,
        crowd_n=int(voted.sum()),
        fitted_rows=len(rows),
        left_out=dict(left_out),
        folds_no_fit=folds_no_fit,
        refinement=RefinementChoice(
            taken=trial.taken,
            reason=trial.reason,
            prior_exponent=exponent,
            prior_exponent_95=exponent_95,
        ),
        decision=DecisionChoice(
            exponent=calibration.exponent,
            f1_exponent=exponents.exponent,
            gain_is_real=exponents.gain_is_real,
            reason=exponents.reason,
        ),
    )


def write_calibration(folder: Path, calibration: CalibrationFile) -> None:
    """Write calibration.json into a folder."""
    write_json(folder / FILE, calibration.model_dump(mode="json"))


def read_calibration(folder: Path) -> CalibrationFile:
    """Read calibration.json; raise a UserError if it is missing or is not what calibrate writes."""
    shown, path = f"models/{folder.name}/{FILE}", folder / FILE
    if not path.is_file():
        raise UserError(f"{shown}: missing; run `dvc repro calibrate`")
    try:
        return CalibrationFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem, *_ = error.errors()
        place = ".".join(map(str, problem["loc"]))
        raise UserError(
            f"{shown}: {place}: {problem['msg']} ({error.error_count()} problems); "
            "run `dvc repro calibrate`"
        ) from None
