"""Predictions of a model -> rows of the score table, and the CSVs behind every picture."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.calibrating.calibration import Resampling
from stages.calibrating.predictions import Predictions
from stages.calibrating.published import STAGES, Mask, PublishedTeacher
from stages.calibrating.score_table import CHOOSING, DIGITS
from stages.config import CLASSES
from stages.records.schema import shares_of
from stages.runtime.files import write_csv
from stages.scoring.bootstrap import Estimate, Resamples, draw, estimates, f1_estimates, kl_estimate
from stages.scoring.confidence import ece_floor, risk_coverage, wilson_interval
from stages.scoring.metrics import Floats, reliability_table

# Buckets of native sizes, and where each but the first begins.
NATIVE_PX = ("below 48", "48 to 95", "96 to 191", "192 and more")
_EDGES = (48, 96, 192)
_TRAINING_COLUMNS = (
    "epoch", "step", "learning_rate", "margin_rad", "train_loss",
    "val_accuracy", "val_macro_f1", "val_nll",
)  # fmt: skip
# What is drawn of each source.
_SOURCE_METRICS = ("accuracy", "macro_f1")

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
        calibrated = counted.probabilities.calibrated
        f1 = f1_estimates(draw(calibrated, targets, resamples=resamples, bins=bins))
        counts = np.bincount(targets, minlength=len(CLASSES)).tolist()
        for name, count, estimate in zip(CLASSES, counts, f1, strict=True):
            values = interval_of(estimate) if count else {}
            yield _row(predictions, "f1", n=count, by="class", part=name, **values)
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
        for row in _part(held_out, resamples, bins=resampling.settings.bins):
            if row["metric"] in (*CHOOSING, "classes"):
                yield row
    else:
        yield _row(held_out, "classes", n=0, value=0)
    yield from _left_out_rows(held_out, n=n)


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


def _vote_rows(predictions: Predictions, *, resampling: Resampling) -> Iterator[Row]:
    """Yield the distance to the crowd's votes, where there are votes and a temperature for them."""
    shares = shares_of(predictions.rows)
    voted = ~np.isnan(shares[:, 0]) & ~np.isnan(predictions.probabilities.crowd[:, 0])
    if voted.any():
        kept, shares = predictions.only(voted), shares[voted]
        resamples = resampling.resamples(kept.rows["group"])
        for name, probabilities in vars(kept.probabilities).items():
            kl = kl_estimate(probabilities, shares, resamples=resamples)
            about = {"n": len(shares), "label_rule": "votes", "probabilities": name}
            yield _row(kept, "kl", **interval_of(kl), **about)


def _left_out_rows(predictions: Predictions, *, n: int) -> Iterator[Row]:
    for reason, num in predictions.left_out.items():
        yield _row(predictions, "rows", n=n, value=num, by="left_out", part=reason)


def _row(predictions: Predictions, metric: str, **values: Any) -> Row:
    about = {"by": "all", "part": "", "label_rule": "majority", "probabilities": "calibrated"}
    place = {"rows": predictions.place, "fitted_on": predictions.fitted_on}
    return about | {"decision": "argmax", "metric": metric} | place | values


def write_plot_data(
    folder: Path,
    *,
    reported: Mapping[tuple[str, str], Mapping[str, Predictions]],
    teachers: Sequence[PublishedTeacher],
    scores: pd.DataFrame,
    bins: int,
) -> None:
    """Fill a folder for each kind of picture with a `<stage>_<model>.csv` for each model reported.

    `sources/` has one `<stage>.csv`. A teacher without epochs (passed through) has no training
    curve and no file.
    """
    for (stage, model), places in reported.items():
        headline = next(iter(places.values())).unseen
        tables = {
            "reliability": reliability_rows(headline, bins=bins),
            "risk_coverage": risk_coverage(headline.probabilities.calibrated, headline.targets),
            "confusion": confusion_rows(headline),
            "mistakes": mistakes(headline),
        }
        for kind, table in tables.items():
            _write(folder / kind / f"{stage}_{model}.csv", table)
    for teacher in teachers:
        if teacher.history:
            name = f"{teacher.stage}_{teacher.name}.csv"
            _write(folder / "training" / name, training_curve(teacher))
    for stage in STAGES:
        models = [model for where, model in reported if where == stage]
        rows = scores[(scores["stage"] == stage) & scores["model"].isin(models)]
        _write(folder / "sources" / f"{stage}.csv", source_rows(rows))


def reliability_rows(predictions: Predictions, *, bins: int) -> pd.DataFrame:
    """Make a row for each confidence bin with rows, `raw` and `scaled` (calibrated).

    `low, high` are the bin's edges, `confidence` and `accuracy` means of its `count` rows, and
    `accuracy_low, accuracy_high` the accuracy's 95 % interval.
    """
    parts = []
    both = predictions.probabilities
    for name, probabilities in (("raw", both.raw), ("scaled", both.calibrated)):
        table = reliability_table(probabilities, predictions.targets, bins=bins)
        table = table[table["count"] > 0]
        low, high = wilson_interval(table["accuracy"] * table["count"], table["count"])
        parts.append(table.assign(accuracy_low=low, accuracy_high=high, probabilities=name))
    rows = pd.concat(parts)
    return rows[["probabilities", *rows.columns.drop("probabilities")]]


def confusion_rows(predictions: Predictions) -> pd.DataFrame:
    """Make a row for each face, actual and predicted class, as DVC's templates count them."""
    names = pd.Index(CLASSES)
    predicted = predictions.probabilities.calibrated.argmax(axis=1)
    return pd.DataFrame({"actual": names[predictions.targets], "predicted": names[predicted]})


def mistakes(predictions: Predictions) -> pd.DataFrame:
    """List `id, source, actual, predicted, confidence` of misread faces, most confident first."""
    known = predictions.rows[["id", "source"]].reset_index(drop=True)
    table = pd.concat([known, confusion_rows(predictions)], axis=1)
    table["confidence"] = predictions.probabilities.calibrated.max(axis=1).round(DIGITS)
    wrong = table[table["actual"] != table["predicted"]]
    return wrong.sort_values(["confidence", "id"], ascending=[False, True])


def training_curve(teacher: PublishedTeacher) -> pd.DataFrame:
    """Make a row for each epoch; `val_*` is missing where no evaluation was due."""
    rows = [
        entry | {f"val_{key}": value for key, value in (entry["val"] or {}).items()}
        for entry in teacher.history
    ]
    return pd.DataFrame(rows).reindex(columns=list(_TRAINING_COLUMNS))


def source_rows(scores: pd.DataFrame) -> pd.DataFrame:
    """Make a row for each source in domain and each gate, and for each metric that is drawn.

    `model, source, n, classes, metric, value, low, high`; `classes` of the seven are among the n.
    `scores` are those of the models of one stage.
    """
    wanted = scores[scores["probabilities"] == "calibrated"]
    is_gate = wanted["rows"].str.startswith("gate:")
    wanted = wanted[wanted["by"] == np.where(is_gate, "all", "source")]
    gate = "gate " + wanted["rows"].str.removeprefix("gate:")
    wanted = wanted.assign(source=wanted["part"].where(wanted["by"] == "source", gate))
    key = ["model", "source"]
    classes = wanted[wanted["metric"] == "classes"].set_index(key)["value"].astype(int)
    rows = wanted[wanted["metric"].isin(_SOURCE_METRICS)]
    rows = rows.join(classes.rename("classes"), on=key)
    return rows[["model", "source", "n", "classes", "metric", "value", "low", "high"]]


def _write(path: Path, frame: pd.DataFrame) -> None:
    # Vega draws an empty cell as 0 and passes over the text "nan".
    rounded = frame.round(DIGITS)
    write_csv(path, rounded.astype(object).where(rounded.notna(), "nan"))
