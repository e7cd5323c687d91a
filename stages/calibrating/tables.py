"""Predictions of a model -> rows of the score table, and the CSVs behind every picture."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from stages.calibrating.calibration import Resampling
from stages.calibrating.predictions import FittedModel, Predictions
from stages.calibrating.published import Mask
from stages.calibrating.score_table import NAMED, REFINED
from stages.config import CLASSES
from stages.records.schema import shares_of
from stages.scoring.bootstrap import (
    Estimate,
    Resamples,
    draw,
    estimate,
    estimates,
    f1_estimates,
    kl_estimate,
)
from stages.scoring.confidence import ece_floor
from stages.scoring.metrics import Floats, Ints

# Buckets of native sizes, and where each but the first begins.
NATIVE_PX = ("below 48", "48 to 95", "96 to 191", "192 and more")
_EDGES = (48, 96, 192)
Row = dict[str, Any]


def score_rows(
    predictions: Predictions, *, resampling: Resampling, in_domain: int | None = None
) -> Iterator[Row]:
    """Yield all scores of a place, but for the columns that name the model.

    `in_domain` is how many rows of a gate the stage's filter admits. Without a row that counts
    there is a single row with `n` 0, besides what was left out.
    """
    counted, bins = predictions.unseen, resampling.settings.bins
    n, targets = len(counted.rows), counted.targets
    if n:
        resamples = resampling.resamples(counted.rows["group"])
        yield from _part(counted, resamples, bins=bins, probabilities="raw")
        yield from _part(counted, resamples, bins=bins)
    else:
        yield _row(predictions, "classes", n=0, value=0)
    if in_domain is not None:
        yield _row(predictions, "in_domain", n=n, value=in_domain)
    if n:
        calibrated = counted.outputs.calibrated
        yield from _decision_rows(counted, resamples)
        named = counted.outputs.named
        f1 = f1_estimates(draw(calibrated, targets, named=named, resamples=resamples, bins=bins))
        counts = np.bincount(targets, minlength=len(CLASSES)).tolist()
        for name, count, estimate in zip(CLASSES, counts, f1, strict=True):
            values = interval_of(estimate) if count else {}
            yield _row(counted, "f1", n=count, by="class", part=name, **values)
        for by, masks, chosen in (
            ("source", source_masks(counted.rows), counted),
            ("native_px", native_px_masks(counted.rows), counted),
            ("row_set", row_set_masks(predictions.rows), predictions),
        ):
            draws = resampling.resamples(chosen.rows["group"])
            for part, mask in masks.items():
                if mask.any():
                    kept = chosen.only(mask)
                    yield from _part(kept, draws.only(mask), bins=bins, by=by, part=part)
        if in_domain is None:
            yield from _vote_rows(counted, resampling=resampling)
    yield from _left_out_rows(predictions, n=n)


def held_out_rows(held_out: Predictions, *, resampling: Resampling) -> Iterator[Row]:
    """Yield what models are chosen by: calibrated scores of val rows by folds."""
    if n := len(held_out.rows):
        resamples = resampling.resamples(held_out.rows["group"])
        yield from _part(held_out, resamples, bins=resampling.settings.bins)
    else:
        yield _row(held_out, "classes", n=0, value=0)
    yield from _left_out_rows(held_out, n=n)


def choice_rows(fitted: FittedModel, *, resampling: Resampling) -> Iterator[Row]:
    """Yield what was chosen from on val by folds: raw scores, each refinement, both decisions."""
    held_out, bins = fitted.held_out, resampling.settings.bins
    if held_out.rows.empty:
        return
    resamples = resampling.resamples(held_out.rows["group"])
    yield from _part(held_out, resamples, bins=bins, probabilities="raw")
    yield from _decision_rows(held_out, resamples)
    yield from refinement_rows(fitted, resampling=resampling)


def refinement_rows(fitted: FittedModel, *, resampling: Resampling) -> Iterator[Row]:
    """Yield the scores of each refinement on val by folds."""
    held_out = fitted.held_out
    resamples = resampling.resamples(held_out.rows["group"])
    for refinement, values in fitted.trial.held_out.items():
        yield from _scores(
            held_out,
            values,
            values.argmax(axis=1),
            resamples,
            bins=resampling.settings.bins,
            about={"n": len(values), "probabilities": REFINED[refinement], "decision": "argmax"},
        )


def source_masks(rows: pd.DataFrame) -> dict[str, Mask]:
    """Mark the rows (N,) of each source."""
    source = rows["source"].to_numpy()
    return {str(name): source == name for name in sorted(set(source))}


def native_px_masks(rows: pd.DataFrame) -> dict[str, Mask]:
    """Mark the rows (N,) of each bucket of native sizes."""
    bucket = np.digitize(rows["native_px"], _EDGES)
    return {name: bucket == number for number, name in enumerate(NATIVE_PX)}


def row_set_masks(rows: pd.DataFrame) -> dict[str, Mask]:
    """Mark the sets of rows (N,) that a reader may mean, rows that were trained on included.

    `official` is the dataset's own split; `duplicate_free` rows had no duplicate in another split
    before any row left.
    """
    official = (rows["official"] == rows["split"]).to_numpy(dtype=bool)
    is_free = (rows["twin_splits"] == "").to_numpy(dtype=bool)
    return {
        "all": np.ones(len(rows), dtype=bool),
        "duplicate_free": is_free,
        "official": official,
        "official_duplicate_free": official & is_free,
    }


def interval_of(estimate: Estimate) -> dict[str, float]:
    """Return the columns of a value and its interval."""
    low, high = estimate.interval
    return {"value": estimate.value, "low": low, "high": high}


def _part(
    predictions: Predictions,
    resamples: Resamples,
    *,
    bins: int,
    probabilities: Literal["raw", "calibrated"] = "calibrated",
    by: str = "all",
    part: str = "",
) -> Iterator[Row]:
    """Yield every metric of some rows, and how many classes are there."""
    outputs, n = predictions.outputs, len(predictions.rows)
    about: Row = {"n": n, "by": by, "part": part, "probabilities": probabilities}
    if probabilities == "raw":
        values, named = outputs.raw, outputs.raw.argmax(axis=1)
        about["decision"] = "argmax"
    else:
        values, named = outputs.calibrated, outputs.named
        yield _row(predictions, "classes", value=len(np.unique(predictions.targets)), **about)
    yield from _scores(predictions, values, named, resamples, bins=bins, about=about)


def _scores(
    predictions: Predictions,
    values: Floats,
    named: Ints,
    resamples: Resamples,
    *,
    bins: int,
    about: Row,
) -> Iterator[Row]:
    """Yield every metric of probabilities (N, 7) and named classes (N,), and the ECE's floor."""
    floor = ece_floor(values, group=resamples.group, bins=bins)
    drawn = draw(values, predictions.targets, named=named, resamples=resamples, bins=bins)
    for metric, found in estimates(drawn, floor=floor).items():
        yield _row(predictions, metric, **about | interval_of(found))
    yield _row(predictions, "ece_floor", **about, value=floor.mean)
    yield _row(predictions, "ece_floor_95", **about, value=floor.percentile_95)


def _decision_rows(predictions: Predictions, resamples: Resamples) -> Iterator[Row]:
    """Yield what the most probable class scores, and what the class by the prior."""
    outputs, targets = predictions.outputs, predictions.targets
    for decision, named in (
        ("argmax", outputs.calibrated.argmax(axis=1)),
        ("prior", outputs.named_for_f1),
    ):
        drawn = draw(outputs.calibrated, targets, named=named, resamples=resamples, bins=1)
        about = {"n": len(targets), "by": "decision", "part": decision, "decision": decision}
        for metric in NAMED[:3]:
            yield _row(predictions, metric, **about | interval_of(estimate(drawn, metric)))


def _vote_rows(predictions: Predictions, *, resampling: Resampling) -> Iterator[Row]:
    """Yield the distance to the crowd's votes, where there are votes and a temperature for them."""
    shares = shares_of(predictions.rows)
    voted = ~np.isnan(shares[:, 0]) & ~np.isnan(predictions.outputs.crowd[:, 0])
    if voted.any():
        kept, shares = predictions.only(voted), shares[voted]
        resamples = resampling.resamples(kept.rows["group"])
        for name in ("raw", "calibrated", "crowd"):
            kl = kl_estimate(getattr(kept.outputs, name), shares, resamples=resamples)
            about = {"n": len(shares), "label_rule": "votes", "probabilities": name}
            yield _row(kept, "kl", **interval_of(kl), **about)


def _left_out_rows(predictions: Predictions, *, n: int) -> Iterator[Row]:
    for reason, num in predictions.left_out.items():
        yield _row(predictions, "rows", n=n, value=num, by="left_out", part=reason)


def _row(predictions: Predictions, metric: str, **values: Any) -> Row:
    about = {"by": "all", "part": "", "label_rule": "majority", "probabilities": "calibrated"}
    place = {"rows": predictions.place, "fitted_on": predictions.fitted_on}
    decision = predictions.decision if metric in NAMED else "argmax"
    return about | {"decision": decision, "metric": metric} | place | values
