"""models/calibrated and models/<stage>/* -> the models that are exported together, and their files.

`<name>.onnx` and a `<name>.<variant>.onnx` for each variant, checked and timed; `teachers/<name>/`
for torch.
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
    SharedInputLoss,
)
from stages.exporting.face_views import choose_face_views
from stages.exporting.metadata import describe
from stages.exporting.onnx_file import (
    Answers,
    CalibratedModel,
    to_onnx,
    write_onnx,
    write_variant,
)
from stages.exporting.rows import ExportRows
from stages.exporting.teacher_inputs import ModelInput, adapt, input_of, shared_input
from stages.modeling.card import TeacherCard
from stages.modeling.teacher import Teacher, load_teacher, save_teacher
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file, write_bytes, write_json

# A file can say these only once, so its teachers must not differ in them.
_SHARED = ("stage", "classes", "manifest_sha256")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedModel:
    """A teacher or the ensemble: the teachers inside with their cards, and what was fitted."""

    teachers: list[Teacher]
    cards: list[TeacherCard]
    fit: ModelCalibration

    @property
    def inputs(self) -> list[ModelInput]:
        """Return the input of each teacher."""
        return [input_of(card) for card in self.cards]

    @property
    def input(self) -> ModelInput:
        """Return the input of the file that holds them all."""
        return shared_input(self.cards, self.calibration.weights)

    @property
    def training_version(self) -> int:
        """Return the highest of the teachers' training versions: some params have a later one."""
        return max(card.training_version for card in self.cards)

    @property
    def calibration(self) -> Calibration:
        """Return the calibration that the fitted numbers make."""
        return self.fit.calibration


@dataclass(frozen=True)
class Bundle:
    """The teachers of one stage by name, and what was fitted on exactly their logits."""

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
        UserError: if something is missing, was calibrated with other weights or from another
            run (incident N5), or the teachers differ in what a common file says only once (incident
            X3).
    """
    fitted = read_calibration(models / "calibrated")
    stage, fused = fitted.stage, fitted.taken[fitted.fused_model]
    teachers = {}
    for name, member in fused.members.items():
        if name.lower() == ENSEMBLE:
            raise UserError(f"params.yaml: teachers.{name}: this name is kept for the ensemble")
        teacher, card = load_teacher(models / stage / name)
        for each in (member, fitted.taken[name].members[name]):
            if not each.is_of(card):
                raise UserError(
                    f"models/calibrated/calibration.json: {stage}.{name}: fitted on weights "
                    f"{each.weights_sha256[:12]}… of run {each.fingerprint[:12]}…, got "
                    f"{card.weights_sha256[:12]}… of run {card.fingerprint[:12]}… in "
                    f"models/{stage}/{name}; run `dvc repro calibrate`"
                )
        teachers[name] = ExportedModel([teacher], [card], fitted.taken[name])
    cards = [card for model in teachers.values() for card in model.cards]
    said = {key: {card.teacher: getattr(card, key) for card in cards} for key in _SHARED}
    # One picture cannot be equalised in two ways.
    said["preprocess.clahe"] = {card.teacher: card.preprocess["clahe"] for card in cards}
    for key, values in said.items():
        if any(value != values[cards[0].teacher] for value in values.values()):
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
        (teacher,), (card,), images = model.teachers, model.cards, rows.images(model.input)[:8]
        save_teacher(folder / "teachers" / name, teacher, card)
        loaded, loaded_card = load_teacher(folder / "teachers" / name)
        with torch.inference_mode():
            same = torch.equal(loaded(images), teacher(images))
        if not same or loaded_card != card:
            raise ParityError(f"teachers/{name}: does not load back as it was saved")
    checks = ParityFile(stage=bundle.fitted.stage, models=parity)
    write_json(folder / "parity.json", checks.model_dump(mode="json", exclude_none=True))
    times = {name: each.model_dump(mode="json") for name, each in latency.items()}
    write_json(folder / LATENCY_FILE, {"stage": bundle.fitted.stage, "models": times})
    write_bytes(folder / "reference.py", Path(reference.__file__).read_bytes())
    return checks


def _export_model(
    path: Path, model: ExportedModel, rows: ExportRows, *, face: dict[str, Any], settings: Export
) -> tuple[ModelParity, ModelLatency]:
    """Write a model as fp32 and as variants, check and time them."""
    calibration, opset, images = model.calibration, settings.opset, rows.images(model.input)
    networks = adapt(model.teachers, model.inputs, given=model.input)
    module = CalibratedModel(networks, calibration=calibration).eval()
    metadata = describe(
        model.cards, calibration, refinement=model.fit.refinement, face=face, opset=opset
    )
    proto = to_onnx(module, image_size=model.input.image_size, opset=opset)
    write_onnx(path, proto, metadata=metadata | {"precision": "fp32"})
    tolerance = settings.parity_tolerance
    parity = check_parity(path, module, images, faces=rows.pictures, tolerance=tolerance)
    logger.info("%s: differs from torch by at most %.2g", path.name, parity.max_abs_diff)
    full = file_answers(path, rows.reader.batches(rows.held_out, model.input))
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
            file_answers(small, rows.reader.batches(rows.held_out, model.input)),
            full=full,
            rows=rows.held_out,
            allowed=settings.max_accuracy_loss,
        )
    shared = None
    if networks != model.teachers:
        shared = _measure_shared_input(path, model, rows, allowed=settings.max_accuracy_loss)
    checks = ModelParity(parity=parity, held_out=held_out, variants=losses, shared_input=shared)
    return checks, measure_latency(files, module, images)


def _measure_shared_input(
    path: Path, model: ExportedModel, rows: ExportRows, *, allowed: float
) -> SharedInputLoss:
    """Compare a file with its teachers, each of which sees its own input, on all val rows.

    In float32 on both sides: the logits that training published may be of lower precision.
    """
    as_it_is = list(choose_face_views(()).values())
    (logits,) = rows.reader.logits(rows.val, model.teachers, inputs=model.inputs, views=as_it_is)
    own = model.calibration.apply(logits)
    answers = file_answers(path, rows.reader.batches(rows.val, model.input))
    sizes = ", ".join(f"{card.teacher} {card.image_size} px" for card in model.cards)
    loss = measure_loss(
        path.name,
        answers,
        full=Answers(own.calibrated, own.named),
        rows=rows.val,
        allowed=allowed,
        remedy=f"give the teachers inputs that differ less ({sizes}): one input serves them all",
    )
    targets = targets_of(rows.val)
    accuracy, own_accuracy = (
        float((labels == targets).mean()) for labels in (answers.labels, own.named)
    )
    logger.info(
        "%s: one input for all changes a probability by at most %.2g and %d labels of %d val rows",
        *(path.name, loss.max_abs_diff, loss.label_changes, loss.n),
    )
    return SharedInputLoss(**dict(loss), accuracy=accuracy, own_accuracy=own_accuracy)
