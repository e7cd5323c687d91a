"""Predictions of a model -> rows of the score table."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from stages.calibrating.calibration import Resampling
from stages.calibrating.predictions import Predictions
from stages.calibrating.published import Mask
from stages.calibrating.score_table import CHOOSING
from stages.config import CLASSES
from stages.records.schema import shares_of
from stages.scoring.bootstrap import Estimate, Resamples, draw, estimates, f1_estimates, kl_estimate
from stages.scoring.confidence import ece_floor
from stages.scoring.metrics import Floats

NATIVE_PX_EDGES = (0, 48, 96, 192)

Row = dict[str, Any]


def score_rows(
    predictions: Predictions, *, resampling: Resampling, in_domain: int | None = None
) -> Iterator[Row]:
    """Yield all scores of a place, but for the columns that name the model.

    `in_domain` is how many rows of a gate the stage's filter admits. Without a row that counts
    there is a single row with `n` 0, besides what was left out.
    """
    counted = predictions.unseen
    n = len(counted.rows)
    if n:
        resamples = resampling.resamples(counted.rows["group"].tolist())
        yield from _part(counted, resamples, bins=resampling.bins, probabilities="raw")
        yield from _part(counted, resamples, bins=resampling.bins)
    else:
        yield _row(predictions, "classes", n=0, value=0)
    if in_domain is not None:
        yield _row(predictions, "in_domain", n=n, value=in_domain)
    if n:
        yield from _class_rows(counted, resamples, bins=resampling.bins)
        yield from _parts(counted, "source", source_masks(counted.rows), resampling)
        yield from _parts(counted, "native_px", native_px_masks(counted.rows), resampling)
        yield from _parts(predictions, "row_set", row_set_masks(predictions.rows), resampling)
        if in_domain is None:
            yield from vote_rows(counted, resampling=resampling)
    for reason, num in predictions.left_out.items():
        yield _row(predictions, "rows", n=n, value=num, by="left_out", part=reason)


def held_out_rows(held_out: Predictions, *, resampling: Resampling) -> Iterator[Row]:
    """Yield what models are chosen by: calibrated scores of val rows by folds."""
    n = len(held_out.rows)
    if n:
        resamples = resampling.resamples(held_out.rows["group"].tolist())
        wanted = (*CHOOSING, "classes")
        for row in _part(held_out, resamples, bins=resampling.bins):
            if row["metric"] in wanted:
                yield row
    else:
        yield _row(held_out, "classes", n=0, value=0)
    for reason, num in held_out.left_out.items():
        yield _row(held_out, "rows", n=n, value=num, by="left_out", part=reason)


def vote_rows(predictions: Predictions, *, resampling: Resampling) -> Iterator[Row]:
    """Yield the distance to the crowd's votes, where there are votes and a temperature for them."""
    shares = shares_of(predictions.rows)
    voted = ~np.isnan(shares[:, 0]) & ~np.isnan(predictions.probabilities.crowd[:, 0])
    if not voted.any():
        return
    kept, shares = predictions.only(voted), shares[voted]
    resamples = resampling.resamples(kept.rows["group"].tolist())
    for name in ("raw", "calibrated", "crowd"):
        probabilities: Floats = getattr(kept.probabilities, name)
        kl = kl_estimate(probabilities, shares, resamples=resamples)
        about = {"label_rule": "votes", "probabilities": name}
        yield _row(kept, "kl", n=len(shares), **interval_of(kl), **about)


def source_masks(rows: pd.DataFrame) -> dict[str, Mask]:
    """Mark the rows (N,) of each source."""
    source = rows["source"].to_numpy()
    return {str(name): source == name for name in sorted(set(source))}


def native_px_masks(rows: pd.DataFrame) -> dict[str, Mask]:
    """Mark the rows (N,) of each bucket of native sizes that has rows."""
    size = rows["native_px"].to_numpy()
    masks = {}
    for low, high in zip(NATIVE_PX_EDGES, [*NATIVE_PX_EDGES[1:], None], strict=True):
        name = f"{low} to {high - 1}" if high else f"{low} and more"
        name = name if low else f"below {high}"
        masks[name] = (size >= low) & (size < (high or np.inf))
    return {name: mask for name, mask in masks.items() if mask.any()}


def row_set_masks(rows: pd.DataFrame) -> dict[str, Mask]:
    """Mark the sets of rows (N,) that a reader may mean, rows that were trained on included.

    `official` is the dataset's own split; `duplicate_free` rows had no duplicate in another split
    before any row left.
    """
    official = (rows["official"] == rows["split"]).to_numpy(dtype=bool)
    is_free = (rows["twin_splits"] == "").to_numpy(dtype=bool)
    masks = {
        "all": np.ones(len(rows), dtype=bool),
        "duplicate_free": is_free,
        "official": official,
        "official_duplicate_free": official & is_free,
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def _part(
    predictions: Predictions,
    resamples: Resamples,
    *,
    bins: int,
    probabilities: str = "calibrated",
    by: str = "all",
    part: str = "",
) -> Iterator[Row]:
    """Yield every metric of some rows, the floor of the ECE and how many classes are there."""
    targets = predictions.targets
    values: Floats = getattr(predictions.probabilities, probabilities)
    floor = ece_floor(values, group=resamples.group, bins=bins)
    drawn = draw(values, targets, resamples=resamples, bins=bins)
    about = {"n": len(targets), "by": by, "part": part, "probabilities": probabilities}
    for metric, estimate in estimates(drawn, floor=floor).items():
        yield _row(predictions, metric, **interval_of(estimate), **about)
    yield _row(predictions, "ece_floor", value=floor.mean, **about)
    yield _row(predictions, "ece_floor_95", value=floor.percentile_95, **about)
    if probabilities == "calibrated":
        yield _row(predictions, "classes", value=len(np.unique(targets)), **about)


def _parts(
    predictions: Predictions, by: str, masks: Mapping[str, Mask], resampling: Resampling
) -> Iterator[Row]:
    draws = resampling.resamples(predictions.rows["group"].tolist())
    for name, mask in masks.items():
        kept, resamples = predictions.only(mask), draws.only(mask)
        yield from _part(kept, resamples, bins=resampling.bins, by=by, part=name)


def _class_rows(predictions: Predictions, resamples: Resamples, *, bins: int) -> Iterator[Row]:
    targets = predictions.targets
    drawn = draw(predictions.probabilities.calibrated, targets, resamples=resamples, bins=bins)
    count = np.bincount(targets, minlength=len(CLASSES))
    for name, n, f1 in zip(CLASSES, count, f1_estimates(drawn), strict=True):
        values = interval_of(f1) if n else {}
        yield _row(predictions, "f1", n=int(n), by="class", part=name, **values)


def interval_of(estimate: Estimate) -> dict[str, float]:
    """Return the columns of a value and its interval."""
    low, high = estimate.interval
    return {"value": estimate.value, "low": low, "high": high}


def _row(predictions: Predictions, metric: str, **values: Any) -> Row:
    about = {"by": "all", "part": "", "label_rule": "majority", "probabilities": "calibrated"}
    place = {"rows": predictions.place, "fitted_on": predictions.fitted_on}
    return about | {"decision": "argmax", "metric": metric} | place | values
