"""parity.json and latency.json of an export, and the few numbers of metrics/export.json.

Export checks what it writes by the models here; report reads the files as JSON.
"""

from itertools import product
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

ENSEMBLE = "ensemble"
LATENCY_FILE = "latency.json"
BATCHES = (1, 32)

Share = Annotated[float, Field(ge=0, le=1)]


def _has_ensemble(models: dict[str, Any]) -> dict[str, Any]:
    if ENSEMBLE not in models:
        raise ValueError(f"expected the {ENSEMBLE}, got {list(models)}")
    return models


class ExportPart(BaseModel):
    """Exactly these keys; numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Parity(ExportPart):
    """How far onnxruntime and reference.py are from torch with the fp32 file."""

    rows: PositiveInt
    label_changes: NonNegativeInt
    max_abs_diff: Share
    reference_max_abs_diff: Share


class HeldOutAccuracy(ExportPart):
    """The fp32 file on rows that no teacher was trained on."""

    split: Literal["test", "val"]
    n: PositiveInt
    accuracy: Share
    accuracy_95: tuple[float, float]
    mean_top_probability: Share
    label_rule: Literal["majority"] = "majority"
    fitted_on: str
    weights_sha256: dict[str, str]


class VariantLoss(ExportPart):
    """What a smaller file loses on the rows held out; a loss below 0 is a gain."""

    n: PositiveInt
    accuracy_loss: float
    accuracy_loss_95: tuple[float, float]
    nll_increase: float
    max_abs_diff: Share
    label_changes: NonNegativeInt


class ModelParity(ExportPart):
    """The checks that the files of one model passed."""

    parity: Parity
    held_out: HeldOutAccuracy
    variants: dict[Literal["fp16", "int8"], VariantLoss]


class ModelLatency(ExportPart):
    """Median times of one model's files and of torch, by `<file>_batch_<size>`."""

    threads: PositiveInt
    repeats: dict[int, PositiveInt]
    milliseconds: dict[str, PositiveFloat]
    images_per_s: dict[str, PositiveFloat]

    @model_validator(mode="after")
    def _times_every_file_at_every_size(self) -> "ModelLatency":
        names = {"onnx", "torch"} | {key.partition("_batch_")[0] for key in self.milliseconds}
        keys = {f"{name}_batch_{size}" for name, size in product(names, BATCHES)}
        if not keys == self.milliseconds.keys() == self.images_per_s.keys():
            raise ValueError(f"expected times of {sorted(keys)}")
        return self


class LatencyFile(ExportPart):
    """latency.json: how fast each exported model was on this machine."""

    stage: str
    models: Annotated[dict[str, ModelLatency], AfterValidator(_has_ensemble)]


class ParityFile(ExportPart):
    """parity.json: the evidence that the files of each exported model say what torch says."""

    stage: str
    models: Annotated[dict[str, ModelParity], AfterValidator(_has_ensemble)]

    def metrics(self) -> dict[str, Any]:
        """Select the numbers of metrics/export.json: those that another run would not change."""
        models: dict[str, dict[str, float]] = {
            name: {"parity_rows": checks.parity.rows, "label_changes": checks.parity.label_changes}
            for name, checks in self.models.items()
        }
        for name, loss in self.models[ENSEMBLE].variants.items():
            models[ENSEMBLE][f"{name}_accuracy_loss"] = round(loss.accuracy_loss, 6)
        return {"stage": self.stage, "models": models}


class SeenLabels(ExportPart):
    """Soft labels of the rows that a teacher has learnt, or of the others."""

    n: PositiveInt
    mean_top_probability: Share


class SoftLabels(ExportPart):
    """How soft the soft labels of the view are, in hash_manifest.json."""

    n: PositiveInt
    label_agreement: Share
    mean_top_probability: Share
    nearly_one_hot: bool
    distillation_temperature: PositiveFloat
    mean_top_probability_distilled: Share
    by_seen: dict[Literal["seen", "unseen"], SeenLabels]

    @model_validator(mode="after")
    def _splits_all_rows(self) -> "SoftLabels":
        if (total := sum(part.n for part in self.by_seen.values())) != self.n:
            raise ValueError(f"by_seen: expected {self.n} rows in all, got {total}")
        return self
