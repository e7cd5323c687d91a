"""What metrics/teachers.json and the evaluate door's JSON must have, to the last key.

A promised number that is missing or not finite, or a key that nobody promised, is a bug, and the
door stops before anything is written.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.calibrating.block_schema import (
    Bias,
    Comparison,
    Contribution,
    Count,
    EmptyBlock,
    EmptyGate,
    EmptyGateComparison,
    FullBlock,
    GateBlock,
    GateComparison,
    HeldOutRow,
    Interval,
    LeftOut,
    Positive,
    Promise,
    Rows,
    Sha256,
    Share,
    Stage,
    VotesBlock,
)


class Refinement(Promise):
    """What became of the bias per class; all changes are null if it could not be tried."""

    adopted: bool
    reason: str
    n: Rows
    nll_change: float | None
    nll_change_95: Interval | None
    accuracy_change: float | None
    accuracy_change_95: Interval | None
    macro_f1_change: float | None
    macro_f1_change_95: Interval | None

    @model_validator(mode="after")
    def _has_all_changes_or_none(self) -> "Refinement":
        changes = self.model_dump(exclude={"adopted", "reason", "n"}).values()
        if len({value is None for value in changes}) > 1:
            raise ValueError("expected every change with its interval, or null for all")
        return self


class Fit(Promise):
    """What was fitted on val."""

    fitted_on: Literal["val"]
    n: Rows
    left_out: list[LeftOut]
    temperature: Positive
    temperature_95: Interval | None
    temperature_no_fit: str | None
    votes_temperature: Positive | None
    votes_temperature_95: Interval | None
    votes_temperature_no_fit: str | None
    votes_n: Count
    class_bias: Bias
    refinement: Refinement

    @model_validator(mode="after")
    def _counts_votes_if_fitted_to_them(self) -> "Fit":
        if (self.votes_temperature is None) != (self.votes_n == 0):
            raise ValueError("votes_n: expected rows with a votes_temperature, and 0 without")
        return self

    @model_validator(mode="after")
    def _has_an_interval_or_says_why_it_is_no_fit(self) -> "Fit":
        if (self.temperature_95 is None) != (self.temperature_no_fit is not None):
            raise ValueError("expected a temperature_95, or a temperature_no_fit that says why")
        return self


class Member(Promise):
    """A teacher in a model."""

    teacher: str
    weight: Share
    weights_sha256: Sha256


class Cost(Promise):
    """What training took."""

    stage: Stage
    teacher: str
    epochs: Count
    seconds_per_epoch: float
    seconds: float


class ModelNumbers(Promise):
    """A teacher or a fusion: `test` and a short `val` by folds, or all of `val` by folds."""

    temperature: Positive
    test: FullBlock | None = None
    val: FullBlock | HeldOutRow | EmptyBlock
    votes: VotesBlock | EmptyBlock
    gates: dict[str, GateBlock | EmptyGate]
    fit: Annotated[list[Fit], Field(min_length=1, max_length=1)]
    members: Annotated[list[Member], Field(min_length=1)]
    leave_one_out: list[Contribution]

    @model_validator(mode="after")
    def _is_reported_in_full_once(self) -> "ModelNumbers":
        if isinstance(self.val, FullBlock) == (self.test is not None):
            raise ValueError("expected a full block of either test or val")
        return self


class StageComparison(Promise):
    """Stage B against Stage A for one model."""

    val: Comparison | EmptyBlock
    test: Comparison | EmptyBlock | None = None
    gates: dict[str, GateComparison | EmptyGateComparison]
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


class Known(Promise):
    """How many of the rows of a file the weights were trained on; null means unknown, and why."""

    rows: Count
    trained_on: Count | None
    unknown: str


class ExportedFile(Promise):
    """An exported file, by its own hash."""

    name: str
    sha256: Sha256
    precision: str


class OwnNumbers(ModelNumbers):
    """What the evaluate door says of a teacher on its own rows."""

    stage: Stage
    teacher: str
    manifest_sha256: Sha256


class NumbersOfRows(Promise):
    """What the evaluate door says of a teacher, or of a file, on the rows of a file."""

    stage: Stage
    teacher: str
    manifest_sha256: Sha256
    file: Annotated[list[ExportedFile], Field(min_length=1, max_length=1)] | None = None
    temperature: Positive
    fit: Annotated[list[Fit], Field(max_length=1)]
    rows: FullBlock | EmptyBlock
    votes: VotesBlock | EmptyBlock
    gates: Annotated[dict[str, GateBlock], Field(max_length=0)]
    trained_on: Annotated[list[Known], Field(min_length=1, max_length=1)]


def check_metrics(found: Any, *, report: Literal["test", "val"]) -> None:
    """Refuse metrics in which anything promised is missing, or that hold anything else.

    Raises:
        ValueError: naming each key.
    """
    metrics = TeachersMetrics.model_validate(found)
    for models in (metrics.stage_a, metrics.stage_b):
        for name, numbers in models.items():
            if (numbers.test is not None) != (report == "test"):
                raise ValueError(f"metrics/teachers.json: {name}: no block {report!r}")


def check_own_numbers(found: Any) -> None:
    """Refuse numbers of a teacher in which anything promised is missing, or that hold more.

    Raises:
        ValueError: naming each key.
    """
    OwnNumbers.model_validate(found)


def check_numbers_of_rows(found: Any) -> None:
    """Refuse numbers on a file's rows in which anything promised is missing, or that hold more.

    Raises:
        ValueError: naming each key.
    """
    NumbersOfRows.model_validate(found)
