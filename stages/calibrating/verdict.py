"""Models against each other on the same rows -> rows of paired.csv, and which stage is taken.

The choice is a fit like any other: it is made on val rows, each calibrated by folds that it is not
in, and reported on test rows and gates. For it both stages are fitted on the val rows of both: else
the narrower filter would win by a class bias that fits just the rows that are compared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from stages.calibrating.calibration import Resampling, no_fits
from stages.calibrating.calibration_file import StageChoice
from stages.calibrating.predictions import (
    FittedModel,
    Model,
    Predictions,
    no_predictions,
    predict_held_out,
    predict_places,
)
from stages.calibrating.published import STAGES, KeptRows, StageRows
from stages.calibrating.score_table import (
    DECISION_GAIN,
    NAMED,
    REFINEMENT_GAINS,
    STAGE_GAIN,
    TEACHER_GAIN,
    number,
    pick,
)
from stages.calibrating.tables import Row, interval_of, source_masks
from stages.records.schema import targets_of
from stages.scoring.bootstrap import Estimate, draw, paired_differences

# What is compared, second minus first: above 0 in macro-F1 and below 0 in NLL speak for the second.
DIFFERENCES = ("macro_f1", "nll")
LABELLED = NAMED[:3]
NOT_COVERED = (
    "Each stage is one run: only an interval over seeds tells how far another run would differ. "
    "Epochs were chosen on val rows, those of stageB on just the ones that are compared, which "
    "makes a stage look a little better than it is."
)


def stage_gain_rows(
    first: Model, second: Model, *, rows: Mapping[str, StageRows], resampling: Resampling
) -> Iterator[Row]:
    """Yield the second stage minus the first: on val, where the choice is made, test and gates.

    Both are fitted on the val rows that both admit and neither was trained on. If those have fewer
    groups than folds, nothing can be fitted, and every place has `n` 0.
    """
    first_rows, second_rows = (rows[model.stage] for model in (first, second))
    val, other = first.unseen(first_rows.val).frame, second.unseen(second_rows.val).frame
    shared = KeptRows(val[val["id"].isin(other["id"])])
    before = _predict_shared(first, first_rows, val=shared, resampling=resampling)
    after = _predict_shared(second, second_rows, val=shared, resampling=resampling)
    about = {
        "what": STAGE_GAIN,
        "model": first.name,
        "weights_sha256": f"{second.weights_sha256}-{first.weights_sha256}",
    }
    for place in before:
        if place == "test" and resampling.settings.report != "test":
            continue
        pair = same_rows(before[place].unseen, after[place].unseen)
        for row in difference_rows(*pair, resampling=resampling, by_source=True):
            yield row | about
        if place.startswith("gate:"):
            ids = pair[0].rows["id"]
            in_domain = int(ids.isin(first_rows.admitted | second_rows.admitted).sum())
            yield _row(*pair, "in_domain", n=len(ids), value=in_domain) | about


def teacher_gain_rows(
    fused: FittedModel, reported: Predictions, *, rows: StageRows, resampling: Resampling
) -> Iterator[Row]:
    """Yield a fusion minus the fusion without a teacher, for each teacher, on the same rows.

    The rest is fitted anew on val: given weights keep their proportions, searched weights are
    searched again, and so is the temperature. A single teacher has no rows.
    """
    model = fused.model
    for member, teacher in enumerate(model.teachers):
        if len(model.teachers) == 1:
            return
        rest = model.without(member)
        val = rest.unseen(rows.val)
        if resampling.settings.report == "test":
            calibration = rest.fit(val, resampling=resampling).calibration
            test = {"test": rows.places["test"]}
            (less,) = predict_places(rest, test, calibration=calibration).values()
        else:
            less, _ = predict_held_out(rest, rows.val, resampling=resampling)
        pair = same_rows(less.unseen, reported.unseen)
        for row in difference_rows(*pair, resampling=resampling):
            yield row | {
                "what": TEACHER_GAIN,
                "stage": model.stage,
                "model": model.name,
                "teacher": teacher.name,
                "weights_sha256": f"{model.weights_sha256}-{rest.weights_sha256}",
            }


def refinement_gain_rows(fitted: FittedModel, *, resampling: Resampling) -> Iterator[Row]:
    """Yield what each refinement changes on val by folds, against the temperature alone."""
    tried, val = dict(fitted.trial.held_out), fitted.val.frame
    draws, metrics = resampling.resamples(val["group"]), ("nll", *LABELLED)
    drawn = {
        refinement: draw(p, targets_of(val), named=p.argmax(axis=1), resamples=draws, bins=1)
        for refinement, p in tried.items()
    }
    for refinement, what in REFINEMENT_GAINS.items():
        if refinement in drawn:
            changes = paired_differences(drawn["none"], drawn[refinement], metrics=metrics)
            yield from _changes(changes, fitted.held_out, fitted.model, what=what, n=len(val))


def decision_gain_rows(
    predictions: Predictions, model: Model, *, resampling: Resampling
) -> Iterator[Row]:
    """Yield what the class by the prior changes, against the most probable class."""
    counted = predictions.unseen
    if counted.rows.empty:
        return
    outputs, draws = counted.outputs, resampling.resamples(counted.rows["group"])
    before, after = (
        draw(outputs.calibrated, counted.targets, named=named, resamples=draws, bins=1)
        for named in (outputs.calibrated.argmax(axis=1), outputs.named_for_f1)
    )
    changes = paired_differences(before, after, metrics=LABELLED)
    yield from _changes(changes, counted, model, what=DECISION_GAIN, n=len(counted.rows))


def _changes(
    changes: Mapping[str, Estimate], place: Predictions, model: Model, *, what: str, n: int
) -> Iterator[Row]:
    about = {"stage": model.stage, "model": model.name, "weights_sha256": model.weights_sha256}
    for metric, change in changes.items():
        row = _row(place, place, metric, what=what, n=n)
        yield row | about | interval_of(change)


def same_rows(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """Cut both predictions to the rows that they share, in the same order."""
    first_ids, second_ids = first.rows["id"], second.rows["id"]
    return (
        first.only(first_ids.isin(second_ids).to_numpy()),
        second.only(second_ids.isin(first_ids).to_numpy()),
    )


def difference_rows(
    first: Predictions, second: Predictions, *, resampling: Resampling, by_source: bool = False
) -> Iterator[Row]:
    """Yield each difference on all rows and by source; `n` 0 without a row."""
    assert np.array_equal(first.rows["id"], second.rows["id"]), "compared on the same rows only"
    if first.rows.empty:
        yield from (_row(first, second, metric, n=0) for metric in DIFFERENCES)
        return
    parts = {("all", ""): np.ones(len(first.rows), dtype=bool)}
    if by_source:
        parts |= {("source", name): mask for name, mask in source_masks(first.rows).items()}
    draws, bins = resampling.resamples(first.rows["group"]), resampling.settings.bins
    for (by, part), mask in parts.items():
        before, after = (
            draw(
                side.outputs.calibrated[mask],
                side.targets[mask],
                named=side.outputs.named[mask],
                resamples=draws.only(mask),
                bins=bins,
            )
            for side in (first, second)
        )
        about = {"n": int(mask.sum()), "by": by, "part": part}
        for metric, change in paired_differences(before, after, metrics=DIFFERENCES).items():
            yield _row(first, second, metric, **about) | interval_of(change)


def decide(paired: pd.DataFrame, *, asked: str, model: str) -> tuple[str, StageChoice]:
    """Take the stage that is asked for; `auto` takes the second only if its gain on val is real.

    A gain is real if macro-F1 or NLL is better beyond its interval and neither is worse beyond its
    own: a class of few rows leaves macro-F1 open where NLL is plain. Costs are not in the words:
    the clock would make another calibration of equal runs.
    """
    first, second = STAGES
    compared = pick(paired, what=STAGE_GAIN, model=model, by="all")
    gain, change = (number(compared, name, rows="val") for name in DIFFERENCES)
    is_better = {"macro-F1": gain.low > 0, "NLL": change.high < 0}
    better = [name for name, is_so in is_better.items() if is_so]
    is_real = bool(better) and gain.high >= 0 >= change.low
    stage = (second if is_real else first) if asked == "auto" else asked
    judgement = f"the gain of {second} is not real"
    if is_real:
        judgement = f"the gain of {second} in {' and '.join(better)} is real"
    why = f"{judgement} on val" if asked == "auto" else f"calibrate.stage says so; {judgement}"
    sentences = [
        f"{stage} is taken: {why}.",
        f"{second} minus {first}, {model}, rows that both admit:",
    ]
    for place, rows in compared.groupby("rows", sort=False):
        title = str(place).replace("gate:", "gate ")
        macro_f1, nll = (number(rows, name) for name in DIFFERENCES)
        if not macro_f1.n:
            sentences.append(f"{title}: no rows.")
            continue
        count = f"n = {macro_f1.n}"
        if title.startswith("gate ") and (in_domain := number(rows, "in_domain").value):
            count += f", {in_domain:.0f} of them in domain"
        words = (f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" for d in (macro_f1, nll))
        sentences.append("{} ({}): macro-F1 {}, NLL {}.".format(title, count, *words))
    return stage, StageChoice(says=" ".join([*sentences, NOT_COVERED]), gain_is_real=is_real)


def _predict_shared(
    model: Model, rows: StageRows, *, val: KeptRows, resampling: Resampling
) -> dict[str, Predictions]:
    """Predict val, test and each gate, fitted on these val rows alone."""
    fitted_on, by_folds = "val of both stages", "val by folds of both stages"
    if val.frame["group"].nunique() < resampling.settings.folds:
        return {
            place: no_predictions(val, place=place, fitted_on=fitted_on)
            for place in ("val", *rows.places)
        }
    held_out, folds_no_fit = predict_held_out(model, val, resampling=resampling)
    calibration = model.fit(val, resampling=resampling).calibration
    places = {"val": held_out} | predict_places(model, rows.places, calibration=calibration)
    notes = {place: (fitted_on, no_fits([calibration])) for place in places}
    notes["val"] = (by_folds, folds_no_fit)
    texts = {place: f"{on} ({note})" if note else on for place, (on, note) in notes.items()}
    return {place: replace(p, fitted_on=texts[place]) for place, p in places.items()}


def _row(first: Predictions, second: Predictions, metric: str, **values: Any) -> Row:
    fitted_on = "; ".join(dict.fromkeys((first.fitted_on, second.fitted_on)))
    texts = {"stage": "", "teacher": "", "by": "all", "part": "", "metric": metric}
    return texts | {"rows": second.place, "fitted_on": fitted_on} | values
