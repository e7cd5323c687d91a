"""Published teachers of both stages -> everything that is fitted, scored, compared and decided."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.calibrating.calibration import Resampling, resampling_of
from stages.calibrating.calibration_file import (
    ORDER,
    CalibrationFile,
    StageChoice,
    stage_models_file,
)
from stages.calibrating.predictions import (
    FUSED_NAMES,
    FittedModel,
    Predictions,
    fit_model,
    report_model,
    stage_models,
)
from stages.calibrating.published import STAGES, PublishedTeacher
from stages.calibrating.score_rows import Row, held_out_rows, score_rows
from stages.calibrating.score_table import (
    DIGITS,
    STAGE_GAIN,
    number,
    paired_table,
    pick,
    score_table,
)
from stages.calibrating.stage_rows import StageRows, rows_of
from stages.calibrating.verdict import (
    DIFFERENCES,
    bias_rows,
    decide,
    stage_gain_rows,
    teacher_gain_rows,
)
from stages.config import CLASSES, Calibrate
from stages.records.folder import ManifestFolder
from stages.scoring.temperature import HIGHEST, LOWEST

_HEADLINE = ("accuracy", "macro_f1", "nll", "ece", "ece_floor")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """Fitted models and all scores.

    `reported` holds the predictions of the models that are shown, by stage and name, then by place,
    in domain first: the teachers and the fusion that params.yaml chose.
    """

    calibration: CalibrationFile
    scores: pd.DataFrame
    paired: pd.DataFrame
    reported: Mapping[tuple[str, str], Mapping[str, Predictions]]


def study(
    teachers: Mapping[str, Sequence[PublishedTeacher]],
    *,
    manifest: ManifestFolder,
    settings: Calibrate,
    seed: int,
    models_folder: Path,
) -> Study:
    """Fit every model on val of its stage, score and compare those that are shown, choose a stage.

    Raises:
        UserError: if rows are missing, filters differ within a stage, or a teacher started
            from weights that its folder in `models_folder` does not hold.
    """
    resampling = resampling_of(settings, seed=seed)
    rows = {
        stage: rows_of(teachers[stage], models=models_folder, manifest=manifest) for stage in STAGES
    }
    models = {
        (stage, model.name): model
        for stage in STAGES
        for model in stage_models(teachers[stage], weights=settings.weights)
    }
    fitted = {
        key: fit_model(model, val=rows[model.stage].val, resampling=resampling)
        for key, model in models.items()
    }
    hidden = set(FUSED_NAMES.values()) - {FUSED_NAMES[settings.fusion]}
    reported = {
        key: report_model(entry, rows=rows[entry.model.stage], resampling=resampling)
        for key, entry in fitted.items()
        if entry.model.name not in hidden
    }
    scores = [
        {"stage": entry.model.stage, "model": entry.model.name}
        | row
        | {"weights_sha256": entry.model.weights_sha256}
        for key, entry in fitted.items()
        for row in model_rows(
            entry, reported.get(key, {}), rows=rows[entry.model.stage], resampling=resampling
        )
    ]
    paired = paired_table(_paired_rows(fitted, reported, rows=rows, resampling=resampling))
    fused = FUSED_NAMES[settings.fusion]
    verdict = decide(paired, asked=settings.stage, model=fused)
    calibration = CalibrationFile(
        stage=verdict.stage,
        stage_asked=settings.stage,
        verdict=StageChoice(says=verdict.says, gain_is_real=verdict.gain_is_real),
        fusion=settings.fusion,
        fused_model=fused,
        report=settings.report,
        classes=CLASSES,
        manifest_sha256=manifest.sha256,
        fitted_on="val",
        order=ORDER,
        temperature_range=(LOWEST, HIGHEST),
        bins=settings.bins,
        bootstrap_samples=settings.bootstrap_samples,
        stages={
            stage: stage_models_file(entry for key, entry in fitted.items() if key[0] == stage)
            for stage in STAGES
        },
    )
    return Study(calibration, score_table(scores), paired, reported)


def model_rows(
    fitted: FittedModel,
    reported: Mapping[str, Predictions],
    *,
    rows: StageRows,
    resampling: Resampling,
) -> Iterator[Row]:
    """Yield the scores of a model at each place, and of its val rows by folds.

    Warn of gates without a row, or with rows of the stage's own domain.
    """
    if "val" not in reported:
        yield from held_out_rows(fitted.held_out, resampling=resampling)
    for place, predictions in reported.items():
        in_domain = None
        if place.startswith("gate:"):
            ids = predictions.unseen.rows["id"]
            in_domain = int(ids.isin(rows.admitted).sum())
            title = f"gate {place[5:]}: {fitted.model.stage} {fitted.model.name}"
            if ids.empty:
                left_out = ", ".join(f"{n} {why}" for why, n in predictions.left_out.items())
                logger.warning("%s: no row is left to report on (%s)", title, left_out)
            elif in_domain:
                message = "%s: the stage's filter admits %d of %d rows: they are no other data"
                logger.warning(message, title, in_domain, len(ids))
        yield from score_rows(predictions, resampling=resampling, in_domain=in_domain)


def headline_metrics(results: Study) -> dict[str, Any]:
    """Choose the few numbers of metrics/teachers.json, rounded to six digits."""
    calibration, fused = results.calibration, results.calibration.fused_model
    metrics: dict[str, Any] = {"taken": calibration.stage, "model": fused}
    whole = {"by": "all", "label_rule": "majority", "probabilities": "calibrated"}
    for stage, models in calibration.stages.items():
        metrics[stage] = {}
        for name in calibration.shown:
            scores = pick(results.scores, stage=stage, model=name, **whole)
            in_domain = pick(scores, rows=calibration.headline_rows)
            n = number(in_domain, "classes").n
            values: dict[str, Any] = {"n": n}
            values |= {metric: _value(in_domain, metric) for metric in _HEADLINE if n}
            values["temperature"] = round(models.models[name].temperature, DIGITS)
            if name == fused:
                gates = pick(scores[scores["rows"].str.startswith("gate:")], metric="macro_f1")
                values["gates"] = {
                    place.removeprefix("gate:"): {"macro_f1": round(value, DIGITS)}
                    for place, value in zip(gates["rows"], gates["value"], strict=True)
                }
            metrics[stage][name] = values
    first, second = STAGES
    gains = pick(results.paired, what=STAGE_GAIN, model=fused, by="all")
    metrics[f"{second}_vs_{first}"] = {
        fused: {
            place: {metric: _value(rows, metric) for metric in DIFFERENCES}
            for place in dict.fromkeys(("val", calibration.headline_rows))
            if (rows := pick(gains, rows=place))["n"].all()
        }
    }
    return metrics


def _value(table: pd.DataFrame, metric: str) -> float:
    return round(number(table, metric).value, DIGITS)


def _paired_rows(
    fitted: Mapping[tuple[str, str], FittedModel],
    reported: Mapping[tuple[str, str], Mapping[str, Predictions]],
    *,
    rows: Mapping[str, StageRows],
    resampling: Resampling,
) -> Iterator[Row]:
    first, second = STAGES
    for stage, name in reported:
        if stage == first:
            pair = (fitted[first, name].model, fitted[second, name].model)
            yield from stage_gain_rows(*pair, rows=rows, resampling=resampling)
    for (stage, name), places in reported.items():
        headline = next(iter(places.values()))
        yield from teacher_gain_rows(
            fitted[stage, name], headline, rows=rows[stage], resampling=resampling
        )
    for entry in fitted.values():
        yield from bias_rows(entry, resampling=resampling)
