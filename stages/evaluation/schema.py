"""What metrics/teachers.json and calibration.json must have, to the last key.

A promised number that is missing or not finite, or a key that nobody promised, is a bug, and the
door stops before anything is written.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _in_order(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    if low > high:
        raise ValueError(f"the low end {low} is above the high end {high}")
    return ends


Interval = Annotated[tuple[float, float], AfterValidator(_in_order)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Rows = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Bias = Annotated[list[float], Field(min_length=7, max_length=7)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Stage = Literal["stageA", "stageB"]


class Promise(BaseModel):
    """Exactly these keys; numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class About(Promise):
    """What the numbers of a block are numbers of."""

    weights_sha256: Annotated[list[Sha256], Field(min_length=1)]
    label_rule: Literal["majority", "votes"]
    fitted_on: str
    reported_on: str
    n: Count


class LeftOut(Promise):
    """Rows that a block leaves out, and why."""

    reason: str
    rows: Count


class Score(Promise):
    """Every metric with its 95 % interval, but for the class-wise error."""

    n: Rows
    accuracy: Share
    accuracy_95: Interval
    balanced_accuracy: Share
    balanced_accuracy_95: Interval
    macro_f1: Share
    macro_f1_95: Interval
    nll: float
    nll_95: Interval
    brier: float
    brier_95: Interval
    ece: Share
    ece_95: Interval
    ece_equal_mass: Share
    ece_equal_mass_95: Interval
    ece_classwise: Share
    ece_debiased: Share
    ece_debiased_95: Interval


class NamedScore(Score):
    """Before or after calibration."""

    probabilities: Literal["raw", "scaled"]


class Part(Score):
    """Some of the rows; `classes` of the seven are among them."""

    classes: Rows


class SourcePart(Part):
    """The rows of a source."""

    source: str


class SizePart(Part):
    """The rows of a bucket of native sizes."""

    native_px: str


class RowSet(Part):
    """A set of rows that a reader may mean."""

    rows: Literal["all", "duplicate_free", "official", "official_duplicate_free"]


class ClassScore(Promise):
    """F1 and calibration error of a class; no F1 without rows."""

    name: str = Field(alias="class")
    n: Count
    f1: Share | None
    f1_95: Interval | None
    ece: Share

    @model_validator(mode="after")
    def _has_f1_if_it_has_rows(self) -> "ClassScore":
        if any((one is None) != (self.n == 0) for one in (self.f1, self.f1_95)):
            raise ValueError(f"f1: expected a number with its interval for {self.n} rows, or null")
        return self


class EmptyBlock(Promise):
    """No row is left to report on."""

    n: Literal[0]
    about: list[About]
    left_out: list[LeftOut] = []


class FullBlock(Promise):
    """A model on a set of rows; `classes` of the seven are among them."""

    n: Rows
    classes: Rows
    accuracy: Share
    macro_f1: Share
    nll: float
    nll_raw: float
    ece: Share
    ece_raw: Share
    about: Annotated[list[About], Field(min_length=1)]
    left_out: list[LeftOut]
    scores: Annotated[list[NamedScore], Field(min_length=2, max_length=2)]
    per_class: Annotated[list[ClassScore], Field(min_length=7, max_length=7)]
    per_source: Annotated[list[SourcePart], Field(min_length=1)]
    per_native_px: Annotated[list[SizePart], Field(min_length=1)]
    row_sets: Annotated[list[RowSet], Field(min_length=1)]


class VoteScore(Promise):
    """How far probabilities are from the votes."""

    probabilities: Literal["raw", "scaled", "scaled_to_majority"]
    n: Rows
    kl: float
    kl_95: Interval
    soft_ece: Share
    soft_ece_95: Interval


class VotesBlock(Promise):
    """A model against the crowd's votes."""

    n: Rows
    kl: float
    kl_raw: float
    soft_ece: Share
    soft_ece_raw: Share
    about: list[About]
    scores: Annotated[list[VoteScore], Field(min_length=3, max_length=3)]


class Refinement(Promise):
    """What became of the bias per class."""

    class_bias: Bias
    adopted: bool
    reason: str
    n: Rows
    nll_change: float | None
    nll_change_95: Interval | None
    accuracy_change: float | None
    accuracy_change_95: Interval | None


class Fit(Promise):
    """What was fitted on val."""

    fitted_on: Literal["val"]
    n: Rows
    left_out: list[LeftOut]
    temperature: Positive
    temperature_95: Interval
    votes_temperature: Positive | None
    votes_temperature_95: Interval | None
    refinement: Refinement


class Member(Promise):
    """A teacher in a model."""

    teacher: str
    weight: Share
    weights_sha256: Sha256


class Difference(Promise):
    """Second minus first."""

    n: Rows
    macro_f1_gain: float
    macro_f1_gain_95: Interval
    nll_change: float
    nll_change_95: Interval


class SourceDifference(Difference):
    """On the rows of a source."""

    source: str


class Contribution(Difference):
    """With a teacher minus without it."""

    teacher: str
    reported_on: str
    about: Annotated[list[About], Field(min_length=2, max_length=2)]


class Comparison(Difference):
    """Two models on the same rows."""

    about: Annotated[list[About], Field(min_length=2, max_length=2)]
    scores: Annotated[list[Score], Field(min_length=2, max_length=2)]
    per_source: Annotated[list[SourceDifference], Field(min_length=1)]


class Cost(Promise):
    """What training took."""

    stage: Stage
    teacher: str
    epochs: Count
    seconds_per_epoch: float
    seconds: float


class ModelNumbers(Promise):
    """A teacher or a fusion; `test` or, cross-fitted, `val`."""

    temperature: Positive
    test: FullBlock | None = None
    val: FullBlock | None = None
    votes: VotesBlock | EmptyBlock
    gates: dict[str, FullBlock | EmptyBlock]
    fit: Annotated[list[Fit], Field(min_length=1, max_length=1)]
    members: Annotated[list[Member], Field(min_length=1)]
    leave_one_out: list[Contribution]


class StageComparison(Promise):
    """Stage B against Stage A for one model."""

    val: Comparison | EmptyBlock
    test: Comparison | EmptyBlock | None = None
    gates: dict[str, Comparison | EmptyBlock]
    cost: Annotated[list[Cost], Field(min_length=2)]


class VerdictRow(Promise):
    """Which stage is taken."""

    stage: Stage
    asked: Literal["stageA", "stageB", "auto"]
    gain_is_real: bool
    model: str
    says: Annotated[str, Field(min_length=1)]


class Provenance(Promise):
    """What holds for every number."""

    manifest_sha256: Sha256
    label_rules: dict[str, str]
    intervals: str
    bins: Rows
    bootstrap_samples: Rows


class TeachersMetrics(Promise):
    """The whole of metrics/teachers.json."""

    stage_a: Annotated[dict[str, ModelNumbers], Field(min_length=1, alias="stageA")]
    stage_b: Annotated[dict[str, ModelNumbers], Field(min_length=1, alias="stageB")]
    compared: Annotated[dict[str, StageComparison], Field(min_length=1, alias="stageB_vs_stageA")]
    verdict: Annotated[list[VerdictRow], Field(min_length=1, max_length=1)]
    provenance: Annotated[list[Provenance], Field(min_length=1, max_length=1)]


class Fitted(Promise):
    """The calibration of a model."""

    temperature: Positive
    temperature_95: Interval
    class_bias: Bias
    votes_temperature: Positive | None
    fitted_rows: Rows


class FittedTeacher(Fitted):
    """Of a teacher."""

    weights_sha256: Sha256


class FittedFusion(Fitted):
    """Of a fusion."""

    weights: dict[str, Share]
    space: Literal["probabilities", "logits"]


class StageCalibration(Promise):
    """Of all models of a stage."""

    teachers: Annotated[dict[str, FittedTeacher], Field(min_length=1)]
    fused: Annotated[dict[str, FittedFusion], Field(min_length=1)]


class StagesCalibration(Promise):
    """Of both stages."""

    stage_a: StageCalibration = Field(alias="stageA")
    stage_b: StageCalibration = Field(alias="stageB")


class CalibrationFile(Promise):
    """The whole of calibration.json."""

    stage: Stage
    stage_asked: Literal["stageA", "stageB", "auto"]
    verdict: Annotated[str, Field(min_length=1)]
    fusion: str
    classes: Annotated[list[str], Field(min_length=7, max_length=7)]
    manifest_sha256: Sha256
    fitted_on: Literal["val"]
    n: Rows
    order: str
    temperature_range: Interval
    stages: StagesCalibration


def check_metrics(found: Any, *, report: Literal["test", "val"]) -> None:
    """Refuse metrics in which anything promised is missing, or that hold anything else.

    Raises:
        ValueError: naming each key.
    """
    metrics = TeachersMetrics.model_validate(found)
    for models in (metrics.stage_a, metrics.stage_b):
        for name, numbers in models.items():
            if getattr(numbers, report) is None:
                raise ValueError(f"metrics/teachers.json: {name}: no block {report!r}")


def check_calibration(found: Any) -> None:
    """Refuse a calibration in which anything promised is missing, or that holds anything else.

    Raises:
        ValueError: naming each key.
    """
    CalibrationFile.model_validate(found)
