"""A published teacher or an exported file, and rows of any manifest -> an `Evaluation`."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from stages.calibrating.calibration import Outputs, Resampling
from stages.calibrating.calibration_file import (
    Exponent,
    ModelCalibration,
    Positive,
    RefinementChoice,
    Seven,
    Sha256,
    read_calibration,
)
from stages.calibrating.predictions import (
    TRAINED_ON,
    FittedModel,
    Predictions,
    fit_model,
    report_model,
    single,
)
from stages.calibrating.published import (
    Past,
    StageRows,
    find_past,
    mark_known,
    read_teacher,
    rows_of,
)
from stages.calibrating.score_table import DIGITS, score_table
from stages.calibrating.study import model_rows
from stages.calibrating.tables import score_rows
from stages.computing.device import choose_device
from stages.config import Params, Preprocess
from stages.faces.store import FaceStore
from stages.loading.loader import EvalLoader, choose_workers, scoring_batches
from stages.modeling.card import TeacherCard, read_card
from stages.modeling.predict import predict
from stages.modeling.teacher import load_teacher
from stages.records.folder import read_folder
from stages.runtime.files import sha256_file
from tools.onnx_model import predict_onnx, read_onnx
from tools.scored_rows import Asked

Decision = Literal["argmax", "prior"]
IN_VAL = "the row or a copy of it is in val, which chose or calibrated the weights"

logger = logging.getLogger(__name__)


class _Checked(BaseModel):
    """Exactly these keys; numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Known(_Checked):
    """How many of the rows of a file the weights were trained on; None if unknown, and why."""

    rows: int
    trained_on: int | None
    unknown: str


class FileDecision(_Checked):
    """The rule by which a file names its label."""

    rule: str
    exponent: Exponent
    f1_exponent: Exponent
    val_shares: Seven


class ExportedFile(_Checked):
    """An exported file and what it says of itself.

    It is known by its own hash: its teachers' hashes are those of every variant.
    """

    name: str
    sha256: Sha256
    precision: str
    temperature: Positive
    temperature_no_fit: str | None
    crowd_temperature: Positive | None
    crowd_temperature_no_fit: str | None
    refinement: RefinementChoice
    decision: FileDecision


class Evaluation(_Checked):
    """What is known of a model and its scores; `scores` are rows of the score table.

    A teacher has a `fit`; a `file` says what was fitted. `known` is None for a teacher's own rows.
    """

    stage: str
    model: str
    manifest_sha256: Sha256
    weights_sha256: str
    file: ExportedFile | None
    fit: ModelCalibration | None
    known: Known | None
    scores: list[dict[str, Any]]


def evaluate_own_rows(folder: Path, *, params: Params) -> Evaluation:
    """Score a published teacher as calibrate does, from its saved logits."""
    fitted, rows = _fit_teacher(folder, params=params)
    resampling = Resampling(params.calibrate, params.seed)
    reported = report_model(fitted, rows=rows, resampling=resampling)
    scores = model_rows(fitted, reported, rows=rows, resampling=resampling)
    return _of_teacher(read_card(folder), fitted.fit, scores)


def evaluate_teacher(folder: Path, asked: Asked, *, params: Params) -> Evaluation:
    """Score a published teacher on the rows that are asked for.

    It is calibrated as models/calibrated has it, or else on its own val, which takes its manifest.
    """
    model, card = load_teacher(folder)
    fit = _published_fit(folder, card) or _fit_teacher(folder, params=params)[0].fit
    size, preprocess = card.image_size, card.preprocess_params
    faces = _faces_of(asked, size=size, preprocess=preprocess, params=params)
    device = choose_device(params.machine.device)
    # As the published logits, whatever `machine.precision` says.
    dtype = torch.float32
    logits = predict(model.to(device), faces, finish=faces.finish, device=device, dtype=dtype)
    calibration = fit.calibration
    outputs, decision = calibration.apply(logits[None].astype(np.float64)), calibration.decision
    scores, known = _score(asked, outputs, decision, weights=card.weights_sha256, params=params)
    return _of_teacher(card, fit, scores, known)


def evaluate_onnx(path: Path, asked: Asked, *, params: Params) -> Evaluation:
    """Score an exported file, with the calibration that it carries, on the rows asked for."""
    model = read_onnx(path)
    size, preprocess = model.image_size, model.preprocess
    faces = _faces_of(asked, size=size, preprocess=preprocess, params=params)
    keys = set(ExportedFile.model_fields) & set(model.metadata)
    says = {key: model.metadata[key] for key in keys}
    file = ExportedFile(name=path.name, sha256=sha256_file(path), **says)
    outputs = predict_onnx(model, (faces.finish(batch)["image"].cpu().numpy() for batch in faces))
    decision: Decision = "prior" if file.decision.exponent else "argmax"
    weights = "+".join(model.metadata["weights_sha256"].values())
    scores, known = _score(asked, outputs, decision, weights=weights, params=params)
    about = {"stage": model.metadata["stage"], "model": path.stem, "weights_sha256": weights}
    manifest = model.metadata["manifest_sha256"]
    return _evaluation(scores, about=about, manifest=manifest, file=file, fit=None, known=known)


def _fit_teacher(folder: Path, *, params: Params) -> tuple[FittedModel, StageRows]:
    manifest = read_folder(Path("manifests"))
    teacher = read_teacher(folder, manifest=manifest)
    rows = rows_of([teacher], models=folder.parent.parent, manifest=manifest)
    resampling = Resampling(params.calibrate, params.seed)
    return fit_model(single(teacher), val=rows.val, resampling=resampling), rows


def _published_fit(folder: Path, card: TeacherCard) -> ModelCalibration | None:
    """Find what calibrate fitted on the logits of exactly this teacher, if it did."""
    calibrated = folder.parent.parent / "calibrated"
    if not calibrated.is_dir():
        return None
    stages = {str(name): stage for name, stage in read_calibration(calibrated).stages.items()}
    fit = stages[card.stage].models.get(card.teacher)
    return fit if fit is not None and fit.members[card.teacher].is_of(card) else None


def _faces_of(asked: Asked, *, size: int, preprocess: Preprocess, params: Params) -> EvalLoader:
    """Load the faces of the rows in batches, in their order, as a model wants them."""
    device = choose_device(params.machine.device)
    return scoring_batches(
        FaceStore(asked.standardized),
        asked.rows,
        image_size=size,
        preprocess=preprocess,
        workers=choose_workers(params.machine.workers, device=device),
        device=device,
    )


def _score(
    asked: Asked, outputs: Outputs, decision: Decision, *, weights: str, params: Params
) -> tuple[Iterable[dict[str, Any]], Known]:
    """Score the rows that the weights do not know, and count those that they do."""
    rows, manifests = asked.rows, Path("manifests")
    past = Past(rows[:0], rows[:0], "there is no manifest here")
    if manifests.is_dir():
        manifest = read_folder(manifests)
        past = find_past(weights.split("+"), models=Path("models"), manifest=manifest)
    trained = mark_known(rows, past.trained)
    chosen_by = mark_known(rows, past.val) & ~trained
    left_out = {TRAINED_ON: int(trained.sum()), IN_VAL: int(chosen_by.sum())}
    if past.unknown:
        left_out = {}
        logger.warning("%s: rows trained on: unknown: %s", asked.name, past.unknown)
    predictions = Predictions(
        place=f"file:{asked.name}",
        fitted_on="val",
        rows=rows,
        outputs=outputs,
        decision=decision,
        known=np.asarray(trained | chosen_by),
        left_out=left_out,
    )
    scores = score_rows(predictions, resampling=Resampling(params.calibrate, params.seed))
    trained_on = left_out.get(TRAINED_ON)
    return scores, Known(rows=len(rows), trained_on=trained_on, unknown=past.unknown)


def _of_teacher(
    card: TeacherCard,
    fit: ModelCalibration,
    scores: Iterable[dict[str, Any]],
    known: Known | None = None,
) -> Evaluation:
    about = {"stage": card.stage, "model": card.teacher, "weights_sha256": card.weights_sha256}
    manifest = card.manifest_sha256
    return _evaluation(scores, about=about, manifest=manifest, file=None, fit=fit, known=known)


def _evaluation(
    scores: Iterable[dict[str, Any]], *, about: Mapping[str, str], manifest: str, **values: Any
) -> Evaluation:
    """Make an evaluation; rows of scores are rounded as in scores.csv, with None for NaN."""
    table = score_table({**about, **row} for row in scores).round(DIGITS).astype(object)
    records = table.where(table.notna(), None).to_dict("records")
    return Evaluation(manifest_sha256=manifest, scores=records, **about, **values)
