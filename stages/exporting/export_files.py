"""The JSON files of an export: parity.json, latency.json, hash_manifest.json, metrics/export.json.

Each model here is written by export and read by report. `metrics/export.json` holds the few numbers
that another run on the same machine would not change; times are in latency.json, and hashes and
sizes of all files in hash_manifest.json.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.exporting.bundle import ENSEMBLE, Bundle
from stages.runtime.files import sha256_file, write_json

PARITY_FILE, LATENCY_FILE, HASH_FILE = "parity.json", "latency.json", "hash_manifest.json"
BATCHES = (1, 32)

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Rows = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class ExportPart(BaseModel):
    """Exactly these keys; numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class HeldOutAccuracy(ExportPart):
    """The fp32 file on rows that no teacher was trained on."""

    split: Literal["test", "val"]
    n: Rows
    accuracy: Share
    accuracy_95: tuple[float, float]
    mean_top_probability: Share
    label_rule: Literal["majority"]
    fitted_on: str
    weights_sha256: dict[str, str]


class VariantLoss(ExportPart):
    """What a smaller file loses on the rows held out; a loss below 0 is a gain."""

    n: Rows
    accuracy_loss: float
    accuracy_loss_95: tuple[float, float]
    nll_increase: float
    max_abs_diff: Share
    label_changes: Count


class Parity(ExportPart):
    """How far onnxruntime and reference.py are from torch with the fp32 file."""

    rows: Rows
    label_changes: Count
    max_abs_diff: Share
    reference_max_abs_diff: Share


class ModelParity(ExportPart):
    """The checks that the files of one model passed."""

    parity: Parity
    held_out: HeldOutAccuracy
    variants: dict[Literal["fp16", "int8"], VariantLoss]


class ModelLatency(ExportPart):
    """Median times of one model's files and of torch, by `<file>_batch_<size>`."""

    threads: Rows
    repeats: dict[int, Rows]
    milliseconds: dict[str, Positive]
    images_per_s: dict[str, Positive]


class LatencyFile(ExportPart):
    """latency.json: how fast each exported model was on this machine."""

    stage: str
    models: dict[str, ModelLatency]


class ParityFile(ExportPart):
    """parity.json: the evidence that the files of each exported model say what torch says."""

    stage: str
    models: dict[str, ModelParity]

    @model_validator(mode="after")
    def _has_an_ensemble(self) -> "ParityFile":
        if ENSEMBLE not in self.models:
            raise ValueError(f"expected {ENSEMBLE}, got {list(self.models)}")
        return self

    def metrics(self) -> dict[str, Any]:
        """Select the numbers of metrics/export.json."""
        models: dict[str, dict[str, float]] = {
            name: {"parity_rows": checks.parity.rows, "label_changes": checks.parity.label_changes}
            for name, checks in self.models.items()
        }
        for name, loss in self.models[ENSEMBLE].variants.items():
            models[ENSEMBLE][f"{name}_accuracy_loss"] = round(loss.accuracy_loss, 6)
        return {"stage": self.stage, "models": models}


class SeenLabels(ExportPart):
    """Soft labels of the rows that a teacher has learnt, or of the others."""

    n: Rows
    mean_top_probability: Share


class SoftLabels(ExportPart):
    """How soft the soft labels of the view are."""

    n: Rows
    label_agreement: Share
    mean_top_probability: Share
    nearly_one_hot: bool
    distillation_temperature: Positive
    mean_top_probability_distilled: Share
    by_seen: dict[Literal["seen", "unseen"], SeenLabels]


def write_hash_manifest(
    folder: Path, bundle: Bundle, *, view: Path, soft_labels: SoftLabels
) -> None:
    """Write hashes and sizes of all files below `folder`, and the hashes of what they were made of.

    latency.json is left out: it differs from run to run, and equal exports have equal hashes.
    """
    card, calibration = bundle.cards[0], bundle.calibration
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LATENCY_FILE
    }
    write_json(
        folder / HASH_FILE,
        {
            "stage": bundle.stage,
            "recipe_version": card.training_version,
            "manifest_sha256": card.manifest_sha256,
            "calibration_sha256": bundle.calibration_sha256,
            "fusion": bundle.fitted.fusion,
            "calibration": {
                "temperature": calibration.temperature,
                "temperature_no_fit": calibration.temperature_no_fit,
                "class_bias": list(calibration.class_bias),
                "mixture_of": calibration.space,
            },
            "teachers": {
                name: {
                    "backbone": member.card.backbone,
                    "weight": bundle.weights[name],
                    "temperature": member.calibration.temperature,
                    "temperature_no_fit": member.calibration.temperature_no_fit,
                    "weights_sha256": member.card.weights_sha256,
                }
                for name, member in sorted(bundle.members.items())
            },
            "soft_labels": {
                "view": view.stem,
                "view_sha256": sha256_file(view),
                "meaning": "softmax(logits) is the calibrated probability of the ensemble: "
                "calibration_temperature is applied already. distillation_temperature is not: a "
                "student divides these logits and its own by it in the KD and DKD terms. "
                "votes_temperature is what the crowd's votes would have asked for instead of "
                "calibration_temperature; null where too few rows have votes. A temperature "
                "that is no fit is 1, and its no_fit says why",
                "calibration_temperature": calibration.temperature,
                "votes_temperature": calibration.votes_temperature,
                "votes_temperature_no_fit": calibration.votes_temperature_no_fit,
                **soft_labels.model_dump(),
            },
            "files": {name: sha256_file(path) for name, path in files.items()},
            "bytes": {name: path.stat().st_size for name, path in files.items()},
        },
    )
