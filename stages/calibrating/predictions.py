"""A model and the rows of its stage -> what is fitted on val, and predictions on other rows.

Everything is fitted on the stage's val rows only. It is reported on test rows, on val rows that
are calibrated by other folds, and on gate rows.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from stages.calibrating.calibration import (
    Calibration,
    Observed,
    Probabilities,
    Resampling,
    crossfit,
    fit,
    no_fits,
    temperature_intervals,
)
from stages.calibrating.fusion import Mixing, Space
from stages.calibrating.published import Mask, PublishedTeacher
from stages.calibrating.refinement import Trial
from stages.calibrating.stage_rows import KeptRows, StageRows
from stages.config import CLASSES
from stages.records.folder import MANIFEST_FILE
from stages.records.schema import shares_of, targets_of
from stages.runtime.errors import UserError
from stages.scoring.bootstrap import Interval
from stages.scoring.metrics import Floats, Ints, softmax

# `calibrate.fusion` -> the name of the model.
FUSED_NAMES = {
    "fixed": "fused_fixed",
    "searched": "fused_searched",
    "fixed_logits": "fused_fixed_logits",
    "searched_logits": "fused_searched_logits",
}
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

    def observe(self, rows: KeptRows) -> Observed:
        """Gather what a fit needs of these rows."""
        groups = rows.frame["group"].to_numpy(dtype=str)
        return Observed(self.predict(rows), targets_of(rows.frame), shares_of(rows.frame), groups)

    def predict(self, rows: KeptRows) -> Floats:
        """Return each teacher's raw probabilities (M, N, 7) of these rows."""
        return np.stack([softmax(teacher.logits_of(rows.frame)) for teacher in self.teachers])

    def seen(self, rows: KeptRows) -> Mask:
        """Mark the rows (N,) that a teacher was trained on, or on a copy of them."""
        by_teacher = np.stack([teacher.seen(rows.frame) for teacher in self.teachers])
        return np.asarray(by_teacher.any(axis=0))

    def unseen(self, rows: KeptRows) -> KeptRows:
        """Keep the rows that no teacher was trained on."""
        return rows.without(self.seen(rows), reason=TRAINED_ON)

    def without(self, member: int) -> "Model":
        """Leave one of the teachers out."""
        rest = tuple(t for number, t in enumerate(self.teachers) if number != member)
        return Model(self.stage, self.name, rest, self.mixing.without(member))


def single(teacher: PublishedTeacher) -> Model:
    """Make a model of one teacher."""
    return Model(teacher.stage, teacher.name, (teacher,), Mixing((1.0,)))


def stage_models(
    teachers: Sequence[PublishedTeacher], *, weights: Mapping[str, float]
) -> list[Model]:
    """Make the models of a stage: its teachers, then all fusions of them."""
    fixed = tuple(weights[teacher.name] for teacher in teachers)
    return [*map(single, teachers), *(fusion(teachers, kind=k, weights=fixed) for k in FUSED_NAMES)]


def fusion(teachers: Sequence[PublishedTeacher], *, kind: str, weights: tuple[float, ...]) -> Model:
    """Make the fusion of a kind, as `calibrate.fusion` names it, of these teachers."""
    space: Space = "logits" if kind.endswith("_logits") else "probabilities"
    mixing = Mixing(weights if kind.startswith("fixed") else None, space)
    return Model(teachers[0].stage, FUSED_NAMES[kind], tuple(teachers), mixing)


@dataclass(frozen=True)
class Predictions:
    """A model's probabilities on the manifest rows of a place: test, val or gate:<view>.

    `known` marks rows (N,) that the model was trained or chosen on; `left_out` says how many rows
    are missing from `unseen`, by reason.
    """

    place: str
    fitted_on: str
    rows: pd.DataFrame
    probabilities: Probabilities
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
        probabilities, known = self.probabilities.only(mask), self.known[mask]
        rows = self.rows[mask]
        return Predictions(self.place, self.fitted_on, rows, probabilities, known, self.left_out)


@dataclass(frozen=True)
class FittedModel:
    """A model and what was fitted on the val rows that it was not trained on.

    `held_out` are these rows, each calibrated by folds that it is not in; no row if val has fewer
    groups than folds. `folds_no_fit` says how many folds fit no temperature; empty if all do.
    """

    model: Model
    calibration: Calibration
    trial: Trial
    temperature_95: Interval | None
    votes_temperature_95: Interval | None
    votes_n: int
    val: KeptRows
    held_out: Predictions
    folds_no_fit: str


def fit_model(model: Model, *, val: KeptRows, resampling: Resampling) -> FittedModel:
    """Fit a model on val, in whole and by folds. Warn about temperatures that are no fit.

    Raises:
        UserError: if the manifest lacks the rows, or the groups for a report by folds.
    """
    val = _require_rows(model.unseen(val), split="val", model=model)
    observed = model.observe(val)
    calibration, trial = fit(observed, mixing=model.mixing, resampling=resampling)
    held_out, folds_no_fit = no_predictions(val, place="val", fitted_on=BY_FOLDS), ""
    if resampling.report != "test" or val.frame["group"].nunique() >= resampling.folds:
        held_out, folds_no_fit = predict_held_out(model, val, resampling=resampling)
    _warn_of_no_fits(model, calibration, folds_no_fit=folds_no_fit)
    majority, votes = temperature_intervals(observed, calibration, resampling=resampling)
    votes_n = 0 if calibration.votes_temperature is None else int(observed.has_votes.sum())
    return FittedModel(
        model, calibration, trial, majority, votes, votes_n, val, held_out, folds_no_fit
    )


def report_model(
    fitted: FittedModel, *, rows: StageRows, resampling: Resampling
) -> dict[str, Predictions]:
    """Predict the rows that a model is reported on: test or val by folds first, then each gate.

    Raises:
        UserError: if the manifest has no such test rows.
    """
    places = rows.places
    if resampling.report == "test":
        _require_rows(fitted.model.unseen(rows.test), split="test", model=fitted.model)
        return predict_places(fitted.model, places, calibration=fitted.calibration)
    del places["test"]
    gates = predict_places(fitted.model, places, calibration=fitted.calibration)
    return {"val": fitted.held_out} | gates


def predict_places(
    model: Model, places: Mapping[str, KeptRows], *, calibration: Calibration
) -> dict[str, Predictions]:
    """Predict rows that the model was not fitted on, by the name of their place."""
    return {
        place: Predictions(
            place,
            "val",
            rows.frame,
            calibration.apply(model.predict(rows)),
            model.seen(rows),
            model.unseen(rows).left_out,
        )
        for place, rows in places.items()
    }


def predict_held_out(
    model: Model, val: KeptRows, *, resampling: Resampling
) -> tuple[Predictions, str]:
    """Predict val rows, each calibrated by the other folds; say which folds fit no temperature."""
    probabilities, calibrations = crossfit(
        model.observe(val), mixing=model.mixing, resampling=resampling
    )
    unknown = np.zeros(len(val.frame), dtype=bool)
    held_out = Predictions("val", BY_FOLDS, val.frame, probabilities, unknown, val.left_out)
    return held_out, no_fits(calibrations)


def no_predictions(rows: KeptRows, *, place: str, fitted_on: str) -> Predictions:
    """Make the predictions of no row."""
    empty = np.empty((0, len(CLASSES)))
    probabilities = Probabilities(empty, empty, empty)
    unknown = np.zeros(0, dtype=bool)
    return Predictions(place, fitted_on, rows.frame[:0], probabilities, unknown, rows.left_out)


def _warn_of_no_fits(model: Model, calibration: Calibration, *, folds_no_fit: str) -> None:
    place = f"models/{model.stage}: {model.name}"
    if reason := calibration.temperature_no_fit:
        logger.warning("%s: no fit on val, temperature 1 and no bias: %s", place, reason)
    elif folds_no_fit:
        logger.warning("%s: val by folds: %s", place, folds_no_fit)
    if reason := calibration.votes_temperature_no_fit:
        logger.warning("%s: no fit to the votes of val, temperature 1: %s", place, reason)


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
