"""A published teacher or an exported file, and rows of any manifest -> an `Evaluation`."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from stages.calibrating.calibration import Probabilities, Resampling
from stages.calibrating.calibration_file import ModelCalibration, Sha256
from stages.calibrating.predictions import (
    TRAINED_ON,
    FittedModel,
    Predictions,
    fit_model,
    report_model,
    single,
)
from stages.calibrating.published import StageRows, find_past, mark_known, read_teacher, rows_of
from stages.calibrating.score_table import COLUMNS, DIGITS, score_table
from stages.calibrating.study import model_rows
from stages.calibrating.tables import score_rows
from stages.computing.device import choose_device, choose_dtype
from stages.config import Params, Preprocess
from stages.faces.store import FaceStore
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.dataset import FaceDataset
from stages.loading.loader import EvalLoader, choose_workers
from stages.modeling.predict import predict
from stages.modeling.teacher import load_teacher
from stages.records.folder import read_folder
from stages.records.schema import SHARE_COLUMNS, read_manifest, targets_of
from stages.runtime.errors import UserError
from stages.scoring.metrics import softmax
from tools.onnx_model import predict_onnx, read_onnx

IN_VAL = "the row or a copy of it is in val, which chose or calibrated the weights"

_BATCH = 64

logger = logging.getLogger(__name__)


class Known(BaseModel):
    """How many of the rows of a file the weights were trained on; None if unknown, and why."""

    model_config = ConfigDict(extra="forbid")

    rows: int
    trained_on: int | None
    unknown: str


class ExportedFile(BaseModel):
    """An exported file, by its own hash: its teachers' hashes are those of every variant."""

    model_config = ConfigDict(extra="forbid")

    name: str
    sha256: Sha256
    precision: str


class Evaluation(BaseModel):
    """What is known of a model and its scores; `scores` are rows of the score table.

    `fit` is None for a file, which carries its calibration; `known` is None for the teacher's own
    rows.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    stage: str
    model: str
    manifest_sha256: Sha256
    weights_sha256: str
    file: ExportedFile | None
    temperature: Annotated[float, Field(gt=0)]
    temperature_no_fit: str | None
    fit: ModelCalibration | None
    known: Known | None
    scores: list[dict[str, Any]]


def evaluate_own_rows(folder: Path, *, params: Params) -> Evaluation:
    """Score a published teacher as calibrate does, from its saved logits."""
    fitted, rows = _fit_teacher(folder, params=params)
    resampling = Resampling(params.calibrate, params.seed)
    reported = report_model(fitted, rows=rows, resampling=resampling)
    scores = model_rows(fitted, reported, rows=rows, resampling=resampling)
    return _evaluation(fitted, scores)


def evaluate_teacher(
    folder: Path, rows_file: Path, *, standardized: Path, params: Params
) -> Evaluation:
    """Score a published teacher, calibrated on its own val, on the rows of a file."""
    fitted, _ = _fit_teacher(folder, params=params)
    rows = read_rows(rows_file)
    model, card = load_teacher(folder)
    preprocess = Preprocess.model_validate_json(json.dumps(card.preprocess))
    device = choose_device(params.machine.device)
    faces = _faces_of(
        rows,
        standardized=standardized,
        image_size=card.image_size,
        preprocess=preprocess,
        params=params,
    )
    dtype = choose_dtype(params.machine.precision, device)
    logits = predict(model.to(device), faces, finish=faces.finish, device=device, dtype=dtype)
    probabilities = fitted.fit.calibration.apply(softmax(logits)[None])
    scores, known = _score_file(
        rows, probabilities, rows_file, weights=fitted.model.weights_sha256, params=params
    )
    return _evaluation(fitted, scores, known=known)


def evaluate_onnx(path: Path, rows_file: Path, *, standardized: Path, params: Params) -> Evaluation:
    """Score an exported file, with the calibration that it carries, on the rows of a file."""
    model, rows = read_onnx(path), read_rows(rows_file)
    faces = _faces_of(
        rows,
        standardized=standardized,
        image_size=model.image_size,
        preprocess=model.preprocess,
        params=params,
    )
    images = (faces.finish(batch)["image"].cpu().numpy() for batch in faces)
    probabilities = predict_onnx(model, images)
    weights = "+".join(model.weights_sha256)
    scores, known = _score_file(rows, probabilities, rows_file, weights=weights, params=params)
    about = {"stage": model.metadata["stage"], "model": path.stem, "weights_sha256": weights}
    return Evaluation(
        manifest_sha256=read_folder(Path("manifests")).sha256,
        file=ExportedFile(**model.about()),
        temperature=model.metadata["temperature"],
        temperature_no_fit=model.metadata.get("temperature_no_fit"),
        fit=None,
        known=known,
        scores=_records(about | row for row in scores),
        **about,
    )


def read_rows(path: Path) -> pd.DataFrame:
    """Read the rows of a manifest or a view.

    Raises:
        UserError: if its class order is another, it is missing, malformed or empty.
    """
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            columns = file.readline().strip().split(",")
        order = [name for name in columns if name in SHARE_COLUMNS]
        if order and order != list(SHARE_COLUMNS):
            raise UserError(
                f"{path.name}: class order: expected {list(SHARE_COLUMNS)}, got {order}"
            )
    rows = read_manifest(path)
    if rows.empty:
        raise UserError(f"{path.name}: expected rows, got none")
    return rows


def _fit_teacher(folder: Path, *, params: Params) -> tuple[FittedModel, StageRows]:
    manifest = read_folder(Path("manifests"))
    teacher = read_teacher(folder, manifest=manifest)
    rows = rows_of([teacher], models=folder.parent.parent, manifest=manifest)
    resampling = Resampling(params.calibrate, params.seed)
    return fit_model(single(teacher), val=rows.val, resampling=resampling), rows


def _faces_of(
    rows: pd.DataFrame,
    *,
    standardized: Path,
    image_size: int,
    preprocess: Preprocess,
    params: Params,
) -> EvalLoader:
    """Load the faces of the rows in batches, in their order, as a model wants them."""
    device = choose_device(params.machine.device)
    store = FaceStore(standardized)
    dataset = FaceDataset(
        store,
        positions=store.locate(rows["id"].tolist()),
        targets=targets_of(rows),
        image_size=image_size,
        preprocess=preprocess,
        augmentation=NO_AUGMENTATION,
        seed=0,
    )
    workers = choose_workers(params.machine.workers, device=device)
    return EvalLoader(dataset, batch_size=_BATCH, workers=workers, device=device)


def _score_file(
    rows: pd.DataFrame,
    probabilities: Probabilities,
    rows_file: Path,
    *,
    weights: str,
    params: Params,
) -> tuple[Iterable[dict[str, Any]], Known]:
    """Score the rows of a file that the weights do not know, and count those that they do."""
    manifest = read_folder(Path("manifests"))
    past = find_past(weights.split("+"), models=Path("models"), manifest=manifest)
    trained = mark_known(rows, past.trained)
    chosen_by = mark_known(rows, past.val) & ~trained
    left_out = {TRAINED_ON: int(trained.sum()), IN_VAL: int(chosen_by.sum())}
    if past.unknown:
        left_out = {}
        logger.warning("%s: rows trained on: unknown: %s", rows_file.stem, past.unknown)
    predictions = Predictions(
        place=f"file:{rows_file.stem}",
        fitted_on="val",
        rows=rows,
        probabilities=probabilities,
        known=np.asarray(trained | chosen_by),
        left_out=left_out,
    )
    resampling = Resampling(params.calibrate, params.seed)
    trained_on = None if past.unknown else int(trained.sum())
    known = Known(rows=len(rows), trained_on=trained_on, unknown=past.unknown)
    return score_rows(predictions, resampling=resampling), known


def _evaluation(
    fitted: FittedModel, scores: Iterable[dict[str, Any]], *, known: Known | None = None
) -> Evaluation:
    model, calibration = fitted.model, fitted.fit
    about = {"stage": model.stage, "model": model.name, "weights_sha256": model.weights_sha256}
    return Evaluation(
        manifest_sha256=read_folder(Path("manifests")).sha256,
        file=None,
        temperature=calibration.temperature,
        temperature_no_fit=calibration.temperature_no_fit,
        fit=fitted.fit,
        known=known,
        scores=_records(about | row for row in scores),
        **about,
    )


def _records(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    table = score_table(rows).round(DIGITS).astype(object)
    cells = table.where(table.notna(), None).to_numpy().tolist()
    return [dict(zip(COLUMNS, row, strict=True)) for row in cells]
