"""Published teachers of both stages -> everything that is fitted, scored, compared and decided."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd

from stages.calibrating.calibration import Resampling
from stages.calibrating.calibration_file import ORDER, CalibrationFile, StageModels, StageName
from stages.calibrating.predictions import (
    FUSIONS,
    FittedModel,
    Predictions,
    fit_model,
    report_model,
    stage_models,
)
from stages.calibrating.published import STAGES, PublishedTeacher, StageRows, rows_of
from stages.calibrating.score_table import (
    DIGITS,
    STAGE_GAIN,
    number,
    paired_table,
    pick,
    score_table,
)
from stages.calibrating.tables import (
    Row,
    choice_rows,
    held_out_rows,
    refinement_rows,
    score_rows,
)
from stages.calibrating.verdict import (
    DIFFERENCES,
    decide,
    decision_gain_rows,
    refinement_gain_rows,
    stage_gain_rows,
    teacher_gain_rows,
)
from stages.config import CLASSES, Calibrate
from stages.records.folder import ManifestFolder
from stages.runtime.workers import with_progress
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
    resampling, fused_model = Resampling(settings, seed), f"fused_{settings.fusion}"
    hidden = {f"fused_{kind}" for kind in FUSIONS} - {fused_model}
    rows, fitted, reported = {}, {}, {}
    for stage in STAGES:
        rows[stage] = rows_of(teachers[stage], models=models_folder, manifest=manifest)
    models = [
        model
        for stage in STAGES
        for model in stage_models(teachers[stage], weights=settings.weights)
    ]
    for model in with_progress(models, name="fitting", unit="models", total=len(models)):
        stage, name = model.stage, model.name
        entry = fit_model(model, val=rows[stage].val, resampling=resampling)
        fitted[stage, name] = entry
        if name not in hidden:
            places = report_model(entry, rows=rows[stage], resampling=resampling)
            reported[stage, name] = places
    scores: list[Row] = []
    entries = with_progress(fitted.items(), name="measuring", unit="models", total=len(fitted))
    for (stage, name), entry in entries:
        about = {"stage": stage, "model": name, "weights_sha256": entry.model.weights_sha256}
        places = reported.get((stage, name), {})
        made = model_rows(entry, places, rows=rows[stage], resampling=resampling)
        scores += [about | row for row in made]
    paired = paired_table(_paired_rows(fitted, reported, rows=rows, resampling=resampling))
    taken, verdict = decide(paired, asked=settings.stage, model=fused_model)
    calibration = CalibrationFile(
        stage=cast(StageName, taken),
        stage_asked=settings.stage,
        verdict=verdict,
        fused_model=fused_model,
        classes=CLASSES,
        manifest_sha256=manifest.sha256,
        fitted_on="val",
        order=ORDER,
        temperature_range=(LOWEST, HIGHEST),
        **settings.model_dump(
            include={"fusion", "report", "bins", "bootstrap_samples", "decide_by"}
        ),
        stages={
            stage: StageModels(models={k[1]: e.fit for k, e in fitted.items() if k[0] == stage})
            for stage in STAGES
        },
    )
    return Study(calibration, score_table(scores), paired, reported)


def _paired_rows(
    fitted: Mapping[tuple[str, str], FittedModel],
    reported: Mapping[tuple[str, str], Mapping[str, Predictions]],
    *,
    rows: Mapping[str, StageRows],
    resampling: Resampling,
) -> Iterator[Row]:
    first, second = STAGES
    entries = with_progress(reported.items(), name="comparing", unit="models", total=len(reported))
    for (stage, name), places in entries:
        if stage == first:
            pair = (fitted[first, name].model, fitted[second, name].model)
            yield from stage_gain_rows(*pair, rows=rows, resampling=resampling)
        entry, headline = fitted[stage, name], next(iter(places.values()))
        yield from teacher_gain_rows(entry, headline, rows=rows[stage], resampling=resampling)
        yield from refinement_gain_rows(entry, resampling=resampling)
        for place in {entry.held_out.place: entry.held_out, headline.place: headline}.values():
            yield from decision_gain_rows(place, entry.model, resampling=resampling)


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
    if "val" in reported:
        yield from refinement_rows(fitted, resampling=resampling)
    else:
        yield from held_out_rows(fitted.held_out, resampling=resampling)
        if reported:
            yield from choice_rows(fitted, resampling=resampling)
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
    about = {"by": "all", "label_rule": "majority", "probabilities": "calibrated"}
    scores = pick(results.scores, **about).set_index(["stage", "model", "rows", "metric"])
    values = scores["value"].round(DIGITS).to_dict()
    in_domain = calibration.headline_rows
    gates = [rows for rows in scores.index.unique("rows") if rows.startswith("gate:")]
    metrics: dict[str, Any] = {"taken": calibration.stage, "model": fused}
    for stage, fitted in calibration.stages.items():
        metrics[stage] = {}
        for name in calibration.shown:
            # A place without a row has none of these metrics.
            metrics[stage][name] = {"n": int(scores["n"][stage, name, in_domain, "classes"])} | {
                metric: values[stage, name, in_domain, metric]
                for metric in _HEADLINE
                if (stage, name, in_domain, metric) in values
            }
            temperature = fitted.models[name].temperature
            metrics[stage][name]["temperature"] = round(temperature, DIGITS)
        metrics[stage][fused]["gates"] = {
            gate.removeprefix("gate:"): {"macro_f1": values[stage, fused, gate, "macro_f1"]}
            for gate in gates
            if (stage, fused, gate, "macro_f1") in values
        }
    first, second = STAGES
    gains = pick(results.paired, what=STAGE_GAIN, model=fused, by="all")
    metrics[f"{second}_vs_{first}"] = {fused: {}}
    for place in dict.fromkeys(("val", in_domain)):
        gain = pick(gains, rows=place)
        if gain["n"].all():
            changes = {name: round(number(gain, name).value, DIGITS) for name in DIFFERENCES}
            metrics[f"{second}_vs_{first}"][fused][place] = changes
    return metrics
