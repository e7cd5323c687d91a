"""parity.json and latency.json of an export, and the few numbers of metrics/export.json.

Export checks what it writes by the models here; report reads the files as JSON.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

ENSEMBLE = "ensemble"
LATENCY_FILE = "latency.json"
BATCHES = (1, 32)

Share = Annotated[float, Field(ge=0, le=1)]


class ExportPart(BaseModel):
    """Exactly these keys; numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Parity(ExportPart):
    """How far onnxruntime and reference.py are from torch with the fp32 file."""

    rows: PositiveInt
    label_changes: NonNegativeInt
    max_abs_diff: Share
    reference_max_abs_diff: Share


class TopProbability(ExportPart):
    """How sure the probabilities of some rows are."""

    n: PositiveInt
    mean_top_probability: Share


class HeldOutAccuracy(TopProbability):
    """The fp32 file on rows that no teacher was trained on; accuracy is of its labels."""

    split: Literal["test", "val"]
    accuracy: Share
    accuracy_95: tuple[float, float]
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


class SharedInputLoss(VariantLoss):
    """What teachers of unlike inputs lose by one input for all, on all val rows.

    `accuracy` is that of the file; `own_accuracy` is that of the teachers in torch, each of which
    sees its own input. Both are in float32.
    """

    accuracy: Share
    own_accuracy: Share


class ModelParity(ExportPart):
    """The checks that the files of one model passed; `shared_input` if its teachers' differ."""

    parity: Parity
    held_out: HeldOutAccuracy
    variants: dict[Literal["fp16", "int8"], VariantLoss]
    shared_input: SharedInputLoss | None = None


class ModelLatency(ExportPart):
    """Median times of one model's files and of torch on this machine, by `<file>_batch_<size>`."""

    threads: PositiveInt
    repeats: dict[int, PositiveInt]
    milliseconds: dict[str, PositiveFloat]
    images_per_s: dict[str, PositiveFloat]


class ParityFile(ExportPart):
    """parity.json: the evidence that the files of each exported model say what torch says."""

    stage: str
    models: dict[str, ModelParity]

    def metrics(self) -> dict[str, Any]:
        """Select the numbers of metrics/export.json: those that another run would not change."""
        models: dict[str, dict[str, float]] = {
            name: {"parity_rows": checks.parity.rows, "label_changes": checks.parity.label_changes}
            for name, checks in self.models.items()
        }
        ensemble = self.models[ENSEMBLE]
        shared = ("shared_input", ensemble.shared_input)
        for name, loss in (*ensemble.variants.items(), shared):
            if loss is not None:
                models[ENSEMBLE][f"{name}_accuracy_loss"] = round(loss.accuracy_loss, 6)
        return {"stage": self.stage, "models": models}


class SoftLabels(ExportPart):
    """How soft the soft labels of the view are, in hash_manifest.json.

    `crowd_lacks` says why rows with votes have the majority's temperature. `sharpness` compares
    like with like: faces as they are, at the majority's temperature; `sharpness_means` says it in
    words.
    """

    n: PositiveInt
    face_views: tuple[str, ...]
    rows_by_temperature: dict[Literal["majority", "crowd"], NonNegativeInt]
    crowd_lacks: str | None
    label_agreement: Share
    mean_top_probability: Share
    nearly_one_hot: bool
    distillation_temperature: PositiveFloat
    mean_top_probability_distilled: Share
    sharpness: dict[Literal["learnt", "not_learnt", "held_out"], TopProbability]
    sharpness_means: str
