"""A model and the rows of its stage -> what is fitted on val, and predictions on other rows.

Everything is fitted on the stage's val rows only. It is reported on test rows, on val rows that
are calibrated by other folds, and on gate rows.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from stages.calibrating.calibration import (
    Calibration,
    Fit,
    Outputs,
    Resampling,
    crossfit,
    fit,
    no_fits,
    no_outputs,
)
from stages.calibrating.calibration_file import ModelCalibration, describe_fit
from stages.calibrating.fusion import Mixing, Space
from stages.calibrating.published import KeptRows, Mask, PublishedTeacher, StageRows
from stages.calibrating.refinement import Trial
from stages.records.folder import MANIFEST_FILE
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.scoring.metrics import Floats, Ints

# Kinds of `calibrate.fusion`; the model is called `fused_<kind>`.
FUSIONS = ("fixed", "searched", "fixed_logits", "searched_logits")
TRAINED_ON = "the row or a copy of it was trained on"
BY_FOLDS = "val by folds"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """One or several teachers of a stage, and how they are mixed."""

    stage: str
    name: str
    teachers: tuple[PublishedTeacher, ...]
    mixing: Mixing

    @property
    def weights_sha256(self) -> str:
        """Join the hashes of the teachers' weights by `+`."""
        return "+".join(teacher.weights_sha256 for teacher in self.teachers)

    def logits(self, rows: KeptRows) -> Floats:
        """Return each teacher's logits (M, N, 7) of these rows."""
        return np.stack([teacher.logits_of(rows.frame) for teacher in self.teachers])

    def fit(self, rows: KeptRows, *, resampling: Resampling) -> Fit:
        """Fit the model on these rows."""
        return fit(self.logits(rows), rows.frame, mixing=self.mixing, resampling=resampling)

    def seen(self, rows: KeptRows) -> Mask:
        """Mark the rows (N,) that a teacher was trained on, or on a copy of them."""
        by_teacher = np.stack([teacher.seen(rows.frame) for teacher in self.teachers])
        return np.asarray(by_teacher.any(axis=0))

    def unseen(self, rows: KeptRows) -> KeptRows:
        """Keep the rows that no teacher was trained on."""
        return rows.without(self.seen(rows), reason=TRAINED_ON)

    def without(self, member: int) -> "Model":
        """Leave one of the teachers out."""
        rest = self.teachers[:member] + self.teachers[member + 1 :]
        return Model(self.stage, self.name, rest, self.mixing.without(member))


def single(teacher: PublishedTeacher) -> Model:
    """Make a model of one teacher."""
    mixing = Mixing((1.0,), (teacher.prior_correction,))
    return Model(teacher.stage, teacher.name, (teacher,), mixing)


def stage_models(
    teachers: Sequence[PublishedTeacher], *, weights: Mapping[str, float]
) -> list[Model]:
    """Make the models of a stage: its teachers, then all fusions of them."""
    models = [single(teacher) for teacher in teachers]
    fixed = tuple(weights[teacher.name] for teacher in teachers)
    corrections = tuple(teacher.prior_correction for teacher in teachers)
    for kind in FUSIONS:
        space: Space = "logits" if kind.endswith("_logits") else "probabilities"
        mixing = Mixing(fixed if kind.startswith("fixed") else None, corrections, space)
        models.append(Model(teachers[0].stage, f"fused_{kind}", tuple(teachers), mixing))
    return models


@dataclass(frozen=True)
class Predictions:
    """A model's outputs on the manifest rows of a place: test, val or gate:<view>.

    `known` marks rows (N,) that the model was trained or chosen on; `left_out` says how many rows
    are missing from `unseen`, by reason. `decision` is how its class is named: the most probable
    one, or by the prior.
    """

    place: str
    fitted_on: str
    rows: pd.DataFrame
    outputs: Outputs
    decision: Literal["argmax", "prior"]
    known: Mask
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def targets(self) -> Ints:
        """Return class numbers (N,)."""
        return targets_of(self.rows)

    @property
    def unseen(self) -> "Predictions":
        """Keep the rows that the model does not know: these count."""
        return self.only(~self.known)

    def only(self, mask: Mask) -> "Predictions":
        """Keep the rows of the mask (N,)."""
        kept, known = self.outputs.only(mask), self.known[mask]
        return replace(self, rows=self.rows[mask], outputs=kept, known=known)


@dataclass(frozen=True)
class FittedModel:
    """A model and what was fitted on the val rows that it was not trained on.

    `held_out` are these rows, each calibrated by folds that it is not in; no row if val has fewer
    groups than folds.
    """

    model: Model
    fit: ModelCalibration
    trial: Trial
    val: KeptRows
    held_out: Predictions


def fit_model(model: Model, *, val: KeptRows, resampling: Resampling) -> FittedModel:
    """Fit a model on val, in whole and by folds. Warn about temperatures that are no fit.

    Raises:
        UserError: if the manifest lacks the rows, or the groups for a report by folds.
    """
    val, settings = _require_rows(model.unseen(val), split="val", model=model), resampling.settings
    num_groups = val.frame["group"].nunique()
    if settings.report == "val_crossfit" and num_groups < settings.folds:
        raise UserError(
            f"params.yaml: calibrate.folds: {settings.folds} folds need as many groups of val "
            f"rows, found {num_groups}"
        )
    fitted = model.fit(val, resampling=resampling)
    held_out, folds_no_fit = predict_held_out(model, val, resampling=resampling)
    calibration, place = fitted.calibration, f"models/{model.stage}: {model.name}"
    if reason := calibration.temperature_no_fit:
        logger.warning("%s: no fit on val, temperature 1 and no bias: %s", place, reason)
    elif folds_no_fit:
        logger.warning("%s: val by folds: %s", place, folds_no_fit)
    if settings.refinement not in ("auto", fitted.trial.taken):
        logger.warning("%s: calibrate.refinement: %s", place, fitted.trial.reason)
    if reason := calibration.crowd_temperature_no_fit:
        logger.warning("%s: no fit to the votes of val, temperature 1: %s", place, reason)
    described = describe_fit(
        fitted,
        logits=model.logits(val),
        rows=val.frame,
        teachers=model.teachers,
        left_out=val.left_out,
        folds_no_fit=folds_no_fit,
        resampling=resampling,
    )
    return FittedModel(model, described, fitted.trial, val, held_out)


def report_model(
    fitted: FittedModel, *, rows: StageRows, resampling: Resampling
) -> dict[str, Predictions]:
    """Predict the rows that a model is reported on: test or val by folds first, then each gate.

    Raises:
        UserError: if the manifest has no such test rows.
    """
    places, headline = dict(rows.places), {}
    if resampling.settings.report == "test":
        _require_rows(fitted.model.unseen(rows.places["test"]), split="test", model=fitted.model)
    else:
        del places["test"]
        headline = {"val": fitted.held_out}
    return headline | predict_places(fitted.model, places, calibration=fitted.fit.calibration)


def predict_places(
    model: Model, places: Mapping[str, KeptRows], *, calibration: Calibration
) -> dict[str, Predictions]:
    """Predict rows that the model was not fitted on, by the name of their place."""
    return {
        place: Predictions(
            place,
            "val",
            rows.frame,
            calibration.apply(model.logits(rows)),
            calibration.decision,
            model.seen(rows),
            model.unseen(rows).left_out,
        )
        for place, rows in places.items()
    }


def predict_held_out(
    model: Model, val: KeptRows, *, resampling: Resampling
) -> tuple[Predictions, str]:
    """Predict val rows, each calibrated by the other folds; say which folds fit no temperature.

    There is no prediction if val has fewer groups than folds.
    """
    if val.frame["group"].nunique() < resampling.settings.folds:
        return no_predictions(val, place="val", fitted_on=BY_FOLDS), ""
    outputs, calibrations = crossfit(
        model.logits(val), val.frame, mixing=model.mixing, resampling=resampling
    )
    held_out = Predictions(
        "val",
        BY_FOLDS,
        val.frame,
        outputs,
        "prior" if any(fitted.exponent for fitted in calibrations) else "argmax",
        np.zeros(len(val.frame), dtype=bool),
        val.left_out,
    )
    return held_out, no_fits(calibrations)


def no_predictions(rows: KeptRows, *, place: str, fitted_on: str) -> Predictions:
    """Make the predictions of no row."""
    nothing, unknown = no_outputs(0), np.zeros(0, dtype=bool)
    return Predictions(place, fitted_on, rows.frame[:0], nothing, "argmax", unknown, rows.left_out)


def _require_rows(rows: KeptRows, *, split: str, model: Model) -> KeptRows:
    if rows.frame.empty:
        remedy = "set calibrate.report: val_crossfit or " if split == "test" else ""
        left_out = "".join(f", {n} left out: {why}" for why, n in rows.left_out.items() if n)
        raise UserError(
            f"params.yaml: calibrate.report: needs {split} rows of {model.stage}.filter, "
            f"manifests/{MANIFEST_FILE} has none{left_out}; {remedy}give the manifest a {split} "
            f"split (manifest.{split}_share)"
        )
    return rows
