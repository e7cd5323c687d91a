"""models/calibrated and models/<stage>/* -> the models that are exported together, and their files.

`<name>.onnx` and a `<name>.<variant>.onnx` for each variant, checked and timed; `teachers/<name>/`
for torch; hash_manifest.json.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stages.calibrating.calibration import Calibration, no_fits
from stages.calibrating.calibration_file import (
    CalibrationFile,
    ModelCalibration,
    read_calibration,
)
from stages.config import Export
from stages.exporting import reference
from stages.exporting.checks import (
    ParityError,
    check_parity,
    file_answers,
    mean_with_interval,
    measure_latency,
    measure_loss,
)
from stages.exporting.export_files import (
    ENSEMBLE,
    LATENCY_FILE,
    HeldOutAccuracy,
    ModelLatency,
    ModelParity,
    ParityFile,
    SoftLabels,
)
from stages.exporting.metadata import describe
from stages.exporting.onnx_file import CalibratedModel, to_onnx, write_onnx, write_variant
from stages.exporting.rows import ExportRows
from stages.modeling.card import TeacherCard
from stages.modeling.teacher import Teacher, load_teacher, save_teacher
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file, write_bytes, write_json

# A file can say these only once, so its teachers must not differ in them.
_SHARED = ["stage", "classes", "image_size", "preprocess", "manifest_sha256", "training_version"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedModel:
    """A teacher or the ensemble: the teachers inside with their cards, and what was fitted."""

    teachers: list[Teacher]
    cards: list[TeacherCard]
    fit: ModelCalibration

    @property
    def calibration(self) -> Calibration:
        """Return the calibration that the fitted numbers make."""
        return self.fit.calibration


@dataclass(frozen=True)
class Bundle:
    """The teachers of one stage by name, and what was fitted on exactly these weights."""

    fitted: CalibrationFile
    calibration_sha256: str
    teachers: dict[str, ExportedModel]
    ensemble: ExportedModel

    @property
    def card(self) -> TeacherCard:
        """The card of the first teacher; the others say the same of what a file says only once."""
        return self.ensemble.cards[0]


def read_bundle(models: Path) -> Bundle:
    """Load the teachers of the stage that calibrate chose, with all that was fitted on them.

    Raises:
        UserError: if something is missing, was calibrated with other weights (incident N5), or the
            teachers differ in what a common file says only once (incident X3).
    """
    fitted = read_calibration(models / "calibrated")
    stage, fused = fitted.stage, fitted.taken[fitted.fused_model]
    teachers = {}
    for name, member in fused.members.items():
        if name.lower() == ENSEMBLE:
            raise UserError(f"params.yaml: teachers.{name}: this name is kept for the ensemble")
        teacher, card = load_teacher(models / stage / name)
        for weights_sha256 in (member.weights_sha256, fitted.taken[name].weights_sha256):
            if card.weights_sha256 != weights_sha256:
                raise UserError(
                    f"models/calibrated/calibration.json: {stage}.{name}: fitted on weights "
                    f"{weights_sha256[:12]}…, got {card.weights_sha256[:12]}… in "
                    f"models/{stage}/{name}; run `dvc repro calibrate`"
                )
        teachers[name] = ExportedModel([teacher], [card], fitted.taken[name])
    cards = [card for model in teachers.values() for card in model.cards]
    for key in _SHARED:
        values = {card.teacher: getattr(card, key) for card in cards}
        if any(value != getattr(cards[0], key) for value in values.values()):
            raise UserError(
                f"models/{stage}: teacher.json: {key}: expected the same for all teachers, got "
                f"{values}; train them again with one recipe"
            )
    if cards[0].manifest_sha256 != fitted.manifest_sha256:
        raise UserError(
            f"models/calibrated/calibration.json: manifest_sha256: expected that of the teachers, "
            f"{cards[0].manifest_sha256[:12]}…, got {fitted.manifest_sha256[:12]}…; "
            "run `dvc repro calibrate`"
        )
    networks = [network for model in teachers.values() for network in model.teachers]
    ensemble = ExportedModel(networks, cards, fused)
    sha256 = sha256_file(models / "calibrated" / "calibration.json")
    return Bundle(fitted, sha256, teachers, ensemble)


def export_bundle(
    folder: Path, bundle: Bundle, rows: ExportRows, *, face: dict[str, Any], settings: Export
) -> ParityFile:
    """Write all models of a bundle for onnxruntime, its teachers for torch, and what was checked.

    `face` says how faces were cut, as `describe_face` does.

    Raises:
        ParityError: if a file does not say what torch says.
        LossError: if a variant loses more accuracy than the recipe allows.
        SizeError: if a variant is hardly smaller than the fp32 file.
    """
    parity, latency = {}, {}
    for name, model in (bundle.teachers | {ENSEMBLE: bundle.ensemble}).items():
        path = folder / f"{name}.onnx"
        parity[name], latency[name] = _export_model(path, model, rows, face=face, settings=settings)
    for name, model in bundle.teachers.items():
        (teacher,), (card,) = model.teachers, model.cards
        save_teacher(folder / "teachers" / name, teacher, card)
        loaded, loaded_card = load_teacher(folder / "teachers" / name)
        with torch.inference_mode():
            same = torch.equal(loaded(rows.images[:8]), teacher(rows.images[:8]))
        if not same or loaded_card != card:
            raise ParityError(f"teachers/{name}: does not load back as it was saved")
    checks = ParityFile(stage=bundle.fitted.stage, models=parity)
    write_json(folder / "parity.json", checks.model_dump(mode="json"))
    times = {name: each.model_dump(mode="json") for name, each in latency.items()}
    write_json(folder / LATENCY_FILE, {"stage": bundle.fitted.stage, "models": times})
    write_bytes(folder / "reference.py", Path(reference.__file__).read_bytes())
    return checks


def _export_model(
    path: Path, model: ExportedModel, rows: ExportRows, *, face: dict[str, Any], settings: Export
) -> tuple[ModelParity, ModelLatency]:
    """Write a model as fp32 and as variants, check and time them."""
    calibration, opset = model.calibration, settings.opset
    module = CalibratedModel(model.teachers, calibration=calibration).eval()
    metadata = describe(
        model.cards, calibration, refinement=model.fit.refinement, face=face, opset=opset
    )
    proto = to_onnx(module, image_size=rows.images.shape[-1], opset=opset)
    write_onnx(path, proto, metadata=metadata | {"precision": "fp32"})
    tolerance = settings.parity_tolerance
    parity = check_parity(path, module, rows.images, faces=rows.pictures, tolerance=tolerance)
    logger.info("%s: differs from torch by at most %.2g", path.name, parity.max_abs_diff)
    full = file_answers(path, rows.reader.batches(rows.held_out))
    hits = full.labels == targets_of(rows.held_out)
    accuracy, interval = mean_with_interval(hits.astype(float), rows.held_out)
    no_fit = no_fits([calibration])
    held_out = HeldOutAccuracy(
        split=rows.split,
        n=len(hits),
        accuracy=accuracy,
        accuracy_95=interval,
        mean_top_probability=float(full.probabilities.max(axis=1).mean()),
        fitted_on=f"val ({no_fit})" if no_fit else "val",
        weights_sha256=metadata["weights_sha256"],
    )
    files, losses = {"onnx": path}, {}
    for variant in settings.variants:
        files[variant] = small = write_variant(variant, proto, full=path, metadata=metadata)
        losses[variant] = measure_loss(
            small.name,
            file_answers(small, rows.reader.batches(rows.held_out)),
            full=full,
            rows=rows.held_out,
            allowed=settings.max_accuracy_loss,
        )
    checks = ModelParity(parity=parity, held_out=held_out, variants=losses)
    return checks, measure_latency(files, module, rows.images)


def write_hash_manifest(
    folder: Path, bundle: Bundle, *, view: Path, soft_labels: SoftLabels
) -> None:
    """Write hashes and sizes of all files below `folder`, and the hashes of what they were made of.

    latency.json is left out: it differs from run to run, and equal exports have equal hashes.
    """
    card, calibration = bundle.card, bundle.ensemble.calibration
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LATENCY_FILE
    }
    meaning = (
        "softmax(logits) is the mean over face_views of the ensemble's calibrated probabilities. "
        "softlabels_index.jsonl names the temperature of each row: the majority's or, for rows "
        "with votes, the crowd's; it is applied already. distillation_temperature is not: a "
        "student divides these logits and its own by it in the KD and DKD terms. A temperature "
        "that is no fit is 1, and its no_fit says why; the crowd's is null where too few val rows "
        "have votes"
    )
    manifest = {
        "stage": bundle.fitted.stage,
        "recipe_version": card.training_version,
        "manifest_sha256": card.manifest_sha256,
        "calibration_sha256": bundle.calibration_sha256,
        "fusion": bundle.fitted.fusion,
        "teachers": {
            name: {
                "backbone": teacher.cards[0].backbone,
                "weight": bundle.ensemble.fit.members[name].weight,
                "weights_sha256": teacher.cards[0].weights_sha256,
            }
            for name, teacher in sorted(bundle.teachers.items())
        },
        "soft_labels": {
            "view": view.stem,
            "view_sha256": sha256_file(view),
            "meaning": meaning,
            "prior_correction": {
                name: member.prior_correction
                for name, member in bundle.ensemble.fit.members.items()
            },
            "class_bias": calibration.class_bias,
            "majority_temperature": calibration.temperature,
            "majority_temperature_no_fit": calibration.temperature_no_fit,
            "crowd_temperature": calibration.crowd_temperature,
            "crowd_temperature_no_fit": calibration.crowd_temperature_no_fit,
            **soft_labels.model_dump(),
        },
        "files": {name: sha256_file(path) for name, path in files.items()},
        "bytes": {name: path.stat().st_size for name, path in files.items()},
    }
    write_json(folder / "hash_manifest.json", manifest)
