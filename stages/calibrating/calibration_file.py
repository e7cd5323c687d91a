"""models/calibrated/calibration.json: everything that was fitted, written and read as one model."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.calibrating.calibration import Calibration
from stages.runtime.errors import UserError
from stages.runtime.files import write_json

FILE = "calibration.json"
ORDER = "fuse in `space`, then softmax(log(fused) / temperature + class_bias)"


def _in_order(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"the low end {ends[0]} is above the high end {ends[1]}")
    return ends


Ends = Annotated[tuple[float, float], AfterValidator(_in_order)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
StageName = Literal["stageA", "stageB"]


class _Entry(BaseModel):
    """Exactly these keys; numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class FusedMember(_Entry):
    """A teacher in a model."""

    weight: Annotated[float, Field(ge=0, le=1)]
    weights_sha256: Sha256


class BiasTrial(_Entry):
    """Whether the bias per class is used, and why. Its changes are in paired.csv."""

    adopted: bool
    reason: Text
    n: Count


class ModelCalibration(_Entry):
    """Fitted numbers of a teacher or a fusion. A temperature that is no fit is 1 and says why.

    `left_out` counts the rows of val that were not fitted on, by reason. `folds_no_fit` says how
    many folds of val fit no temperature; empty if all do.
    """

    members: Annotated[dict[str, FusedMember], Field(min_length=1)]
    space: Literal["probabilities", "logits"]
    temperature: Positive
    temperature_95: Ends | None
    temperature_no_fit: str | None
    class_bias: Annotated[tuple[float, ...], Field(min_length=7, max_length=7)]
    votes_temperature: Positive | None
    votes_temperature_95: Ends | None
    votes_temperature_no_fit: str | None
    votes_n: Count
    fitted_rows: Annotated[int, Field(ge=1)]
    left_out: dict[str, Count]
    folds_no_fit: str
    refinement: BiasTrial

    @model_validator(mode="after")
    def _is_fitted_or_says_why_not(self) -> "ModelCalibration":
        if (self.votes_temperature is None) != (self.votes_n == 0):
            raise ValueError("votes_n: expected rows with a votes_temperature, and 0 without")
        if (self.temperature_95 is None) != (self.temperature_no_fit is not None):
            raise ValueError("expected a temperature_95, or a temperature_no_fit that says why")
        return self

    @property
    def calibration(self) -> Calibration:
        """Return the calibration that these numbers make."""
        numbers = self.model_dump(include=set(Calibration.__dataclass_fields__))
        return Calibration(tuple(m.weight for m in self.members.values()), **numbers)

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
