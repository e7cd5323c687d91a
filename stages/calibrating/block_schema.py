"""What a block of numbers must have, to the last key: the rows of one model, or of two compared."""

from typing import Annotated, Literal

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
    """Every metric with its 95 % interval, and mean and 95th percentile of the ECE's floor."""

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
    ece_floor: Share
    ece_floor_95: Share


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
    """F1 of a class; no F1 without rows."""

    name: str = Field(alias="class")
    n: Count
    f1: Share | None
    f1_95: Interval | None

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


class EmptyGate(EmptyBlock):
    """No row of a gate is left."""

    in_domain: Literal[0]
    left_out: list[LeftOut]


class FullBlock(Promise):
    """A model on a set of rows; `classes` of the seven are among them."""

    n: Rows
    classes: Rows
    accuracy: Share
    macro_f1: Share
    nll: float
    nll_raw: float
    ece: Share
    ece_floor: Share
    about: Annotated[list[About], Field(min_length=1)]
    left_out: list[LeftOut]
    scores: Annotated[list[NamedScore], Field(min_length=2, max_length=2)]
    per_class: Annotated[list[ClassScore], Field(min_length=7, max_length=7)]
    per_source: Annotated[list[SourcePart], Field(min_length=1)]
    per_native_px: Annotated[list[SizePart], Field(min_length=1)]
    row_sets: Annotated[list[RowSet], Field(min_length=1)]


class GateBlock(FullBlock):
    """A model at a gate; the stage's filter admits `in_domain` of the rows."""

    in_domain: Count

    @model_validator(mode="after")
    def _counts_its_own_rows(self) -> "GateBlock":
        if self.in_domain > self.n:
            raise ValueError(f"in_domain: expected at most {self.n}, got {self.in_domain}")
        return self


class HeldOutRow(Promise):
    """Calibrated scores of val rows by folds: what models are chosen by."""

    n: Rows
    classes: Rows
    accuracy: Share
    accuracy_95: Interval
    macro_f1: Share
    macro_f1_95: Interval
    nll: float
    nll_95: Interval
    about: Annotated[list[About], Field(min_length=1)]
    left_out: list[LeftOut]


class VoteScore(Promise):
    """How far probabilities are from the votes."""

    probabilities: Literal["raw", "scaled", "scaled_to_majority"]
    n: Rows
    kl: float
    kl_95: Interval


class VotesBlock(Promise):
    """A model against the crowd's votes."""

    n: Rows
    kl: float
    kl_raw: float
    about: list[About]
    scores: Annotated[list[VoteScore], Field(min_length=3, max_length=3)]


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


class GateComparison(Comparison):
    """At a gate; the filter of either stage admits `in_domain` of the rows."""

    in_domain: Count


class EmptyGateComparison(EmptyBlock):
    """No row of a gate is left for both."""

    in_domain: Literal[0]
