"""models/calibrated and models/<stage>/* -> the models that are exported together, and their files.

`<name>.onnx` and a `<name>.<variant>.onnx` for each variant, checked and timed; `teachers/<name>/`
for torch; hash_manifest.json.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stages.calibrating.calibration import Calibration, no_fits
from stages.calibrating.calibration_file import CalibrationFile, read_calibration
from stages.config import Export
from stages.exporting.checks import (
    ParityError,
    check_parity,
    file_probabilities,
    mean_with_interval,
    measure_latency,
    measure_loss,
    require_small_loss,
)
from stages.exporting.export_files import (
    ENSEMBLE,
    LATENCY_FILE,
    HeldOutAccuracy,
    LatencyFile,
    ModelParity,
    ParityFile,
    SoftLabels,
)
from stages.exporting.metadata import Cut, describe
from stages.exporting.onnx_file import CalibratedModel, to_onnx, write_onnx
from stages.exporting.rows import ExportRows
from stages.exporting.variants import VARIANTS, require_smaller
from stages.modeling.card import TeacherCard
from stages.modeling.teacher import Teacher, load_teacher, save_teacher
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file, write_json
from stages.scoring.metrics import Floats, softmax

# A file can say these only once, so its teachers must not differ in them.
_SHARED = (
    *("stage", "classes", "image_size", "preprocess"),
    *("manifest_sha256", "training_version"),
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedModel:
    """A teacher or the ensemble: the teachers inside with their cards, and its calibration."""

    teachers: list[Teacher]
    cards: list[TeacherCard]
    calibration: Calibration

    @property
    def weights(self) -> dict[str, float]:
        """Each teacher's weight."""
        names = [card.teacher for card in self.cards]
        return dict(zip(names, self.calibration.weights, strict=True))


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
        teachers[name] = ExportedModel([teacher], [card], fitted.taken[name].calibration)
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
    ensemble = ExportedModel(networks, cards, fused.calibration)
    sha256 = sha256_file(models / "calibrated" / "calibration.json")
    return Bundle(fitted, sha256, teachers, ensemble)


def export_bundle(
    folder: Path, bundle: Bundle, rows: ExportRows, *, cut: Cut, settings: Export
) -> tuple[ParityFile, LatencyFile]:
    """Write all models of a bundle for onnxruntime, and its teachers for torch.

    Raises:
        ParityError: if a file does not say what torch says, or a teacher does not load back.
        LossError: if a variant loses more accuracy than the recipe allows.
        SizeError: if a variant is hardly smaller than the fp32 file.
    """
    parity, latency = {}, {}
    for name, model in (bundle.teachers | {ENSEMBLE: bundle.ensemble}).items():
        module = CalibratedModel(model.teachers, calibration=model.calibration).eval()
        files, parity[name] = _export(
            folder / f"{name}.onnx", model, module, rows, cut=cut, settings=settings
        )
        latency[name] = measure_latency(files, module, rows.images)
    for name, model in bundle.teachers.items():
        (teacher,), (card,) = model.teachers, model.cards
        save_teacher(folder / "teachers" / name, teacher, card)
        loaded, loaded_card = load_teacher(folder / "teachers" / name)
        with torch.inference_mode():
            same = torch.equal(loaded(rows.images[:8]), teacher(rows.images[:8]))
        if not same or loaded_card != card:
            raise ParityError(f"teachers/{name}: does not load back as it was saved")
    stage = bundle.fitted.stage
    return ParityFile(stage=stage, models=parity), LatencyFile(stage=stage, models=latency)


def _export(
    path: Path,
    model: ExportedModel,
    module: CalibratedModel,
    rows: ExportRows,
    *,
    cut: Cut,
    settings: Export,
) -> tuple[dict[str, Path], ModelParity]:
    """Write one model as fp32 and as variants, and check them; the files by name."""
    start = time.perf_counter()
    metadata = describe(model.cards, calibration=model.calibration, cut=cut, opset=settings.opset)
    proto = to_onnx(module, image_size=rows.images.shape[-1], opset=settings.opset)
    write_onnx(path, proto, metadata=metadata | {"precision": "fp32"})
    seconds = time.perf_counter() - start
    tolerance = settings.parity_tolerance
    parity = check_parity(path, module, rows.images, faces=rows.pictures, tolerance=tolerance)
    logger.info(
        "%s: written in %.1f s, differs from torch by at most %.2g on %d rows",
        *(path.name, seconds, parity.max_abs_diff, parity.rows),
    )
    full = file_probabilities(path, rows.held_out_batches())
    files, losses = {"onnx": path}, {}
    for variant in settings.variants:
        files[variant] = small = path.with_suffix(f".{variant}.onnx")
        write_onnx(small, VARIANTS[variant](proto), metadata=metadata | {"precision": variant})
        require_smaller(variant, small, full=path)
        smaller = file_probabilities(small, rows.held_out_batches())
        losses[variant] = loss = measure_loss(full, smaller, rows.held_out)
        require_small_loss(small.name, loss, allowed=settings.max_accuracy_loss)
        logger.info(
            "%s: %.1f MB, loses %.4f of the accuracy on %d %s rows",
            *(small.name, small.stat().st_size / 1e6, loss.accuracy_loss, loss.n, rows.split),
        )
    no_fit = no_fits([model.calibration])
    hits = full.argmax(axis=1) == targets_of(rows.held_out)
    accuracy, interval = mean_with_interval(hits.astype(float), rows.held_out)
    held_out = HeldOutAccuracy(
        split=rows.split,
        n=len(hits),
        accuracy=accuracy,
        accuracy_95=interval,
        mean_top_probability=float(full.max(axis=1).mean()),
        label_rule="majority",
        fitted_on=f"val ({no_fit})" if no_fit else "val",
        weights_sha256=metadata["weights_sha256"],
    )
    return files, ModelParity(parity=parity, held_out=held_out, variants=losses)


def label_rows(bundle: Bundle, rows: ExportRows) -> Floats:
    """Compute the ensemble's calibrated probabilities (N, 7) of the rows to label."""
    logits = [rows.reader.logits(rows.labelled, model) for model in bundle.ensemble.teachers]
    return bundle.ensemble.calibration.apply(
        np.stack([softmax(each) for each in logits])
    ).calibrated


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
    write_json(
        folder / "hash_manifest.json",
        {
            "stage": bundle.fitted.stage,
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
                    "backbone": teacher.cards[0].backbone,
                    "weight": bundle.ensemble.weights[name],
                    "temperature": teacher.calibration.temperature,
                    "temperature_no_fit": teacher.calibration.temperature_no_fit,
                    "weights_sha256": teacher.cards[0].weights_sha256,
                }
                for name, teacher in sorted(bundle.teachers.items())
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
