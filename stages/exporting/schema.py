"""What metrics/export.json must have, to the last key."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.calibrating.block_schema import (
    About,
    Count,
    Interval,
    Positive,
    Promise,
    Rows,
    Share,
    Stage,
)

Timing = Annotated[dict[str, Positive], Field(min_length=1)]


class HeldOutNumbers(Promise):
    """The exported model on rows that no teacher was trained on."""

    split: str
    n: Rows
    accuracy: Share
    accuracy_95: Interval
    mean_top_probability: Share
    about: Annotated[list[About], Field(min_length=1, max_length=1)]


class VariantNumbers(Promise):
    """What a smaller file loses on the rows held out; a loss below 0 is a gain."""

    bytes: Rows
    n: Rows
    accuracy_loss: float
    accuracy_loss_95: Interval
    nll_increase: float
    max_abs_diff: Share
    top_class_changes: Count


class LatencySetting(Promise):
    """How the times were taken."""

    threads: Rows
    repeats_batch_1: Rows
    repeats_batch_32: Rows


class ExportNumbers(Promise):
    """Parity, loss and speed of one model's files."""

    n: Rows
    max_abs_diff: Share
    top_class_changes: Count
    reference_max_abs_diff: Share
    bytes: Rows
    held_out: HeldOutNumbers
    fp16: VariantNumbers | None = None
    int8: VariantNumbers | None = None
    latency_ms: Timing
    images_per_s: Timing
    latency_setting: Annotated[list[LatencySetting], Field(min_length=1, max_length=1)]

    @model_validator(mode="after")
    def _times_each_file_and_torch(self) -> "ExportNumbers":
        variants = {"fp16": self.fp16, "int8": self.int8}
        files = ["onnx", *(name for name, found in variants.items() if found), "torch"]
        expected = {f"{name}_batch_{size}" for name in files for size in (1, 32)}
        if not self.latency_ms.keys() == self.images_per_s.keys() == expected:
            raise ValueError(f"expected times of {sorted(expected)}")
        return self


class PartLabels(Promise):
    """Soft labels of the rows that a teacher has learnt, or of those that none has."""

    n: Rows
    mean_top_probability: Share


class SoftLabels(Promise):
    """The soft labels of the view, and how soft they are."""

    n: Rows
    label_agreement: Share
    mean_top_probability: Share
    nearly_one_hot: bool
    distillation_temperature: Positive
    mean_top_probability_distilled: Share
    by_seen: Annotated[dict[Literal["seen", "unseen"], PartLabels], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_each_row_in_one_part(self) -> "SoftLabels":
        if sum(part.n for part in self.by_seen.values()) != self.n:
            raise ValueError("by_seen: expected every row in one part")
        return self


class ExportMetrics(Promise):
    """The exported models of the stage that was taken, and its soft labels."""

    export: Annotated[
        dict[Stage, dict[str, ExportNumbers | SoftLabels]], Field(min_length=1, max_length=1)
    ]

    @model_validator(mode="after")
    def _has_soft_labels_and_an_ensemble(self) -> "ExportMetrics":
        (found,) = self.export.values()
        kinds = {name: type(one) for name, one in found.items() if name in _NEEDED}
        if kinds != _NEEDED:
            raise ValueError(f"expected {' and '.join(_NEEDED)}")
        return self


_NEEDED: dict[str, type[Promise]] = {"ensemble": ExportNumbers, "soft_labels": SoftLabels}


def check_export_metrics(found: Any) -> None:
    """Refuse numbers of an export in which anything promised is missing, or that hold more.

    Raises:
        ValueError: naming each key.
    """
    ExportMetrics.model_validate(found)
