"""Predictions of models, histories and scores -> the CSVs behind every picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.calibrating.predictions import Predictions
from stages.calibrating.published import STAGES, PublishedTeacher
from stages.calibrating.score_table import DIGITS
from stages.config import CLASSES
from stages.runtime.files import write_csv
from stages.scoring.confidence import risk_coverage, wilson_interval
from stages.scoring.metrics import reliability_table

_TRAINING_COLUMNS = (
    "epoch", "step", "learning_rate", "margin_rad", "train_loss",
    "val_accuracy", "val_macro_f1", "val_nll", "val_ece", "val_brier",
    "val_temperature", "val_scaled_nll", "val_scaled_ece",
)  # fmt: skip
# What is drawn of each source.
_SOURCE_METRICS = ("accuracy", "macro_f1")


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
            "risk_coverage": risk_coverage(headline.outputs.calibrated, headline.targets),
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
    both = predictions.outputs
    for name, probabilities in (("raw", both.raw), ("scaled", both.calibrated)):
        table = reliability_table(probabilities, predictions.targets, bins=bins)
        table = table[table["count"] > 0]
        low, high = wilson_interval(table["accuracy"] * table["count"], table["count"])
        parts.append(table.assign(accuracy_low=low, accuracy_high=high, probabilities=name))
    rows = pd.concat(parts)
    return rows[["probabilities", *rows.columns.drop("probabilities")]]


def confusion_rows(predictions: Predictions) -> pd.DataFrame:
    """Make a row for each face, actual and named class, as DVC's templates count them."""
    names, predicted = pd.Index(CLASSES), predictions.outputs.named
    return pd.DataFrame({"actual": names[predictions.targets], "predicted": names[predicted]})


def mistakes(predictions: Predictions) -> pd.DataFrame:
    """List `id, source, actual, predicted, confidence` of misread faces, most confident first.

    The confidence is the probability of the class that is named.
    """
    known = predictions.rows[["id", "source"]].reset_index(drop=True)
    table = pd.concat([known, confusion_rows(predictions)], axis=1)
    outputs = predictions.outputs
    confidence = np.take_along_axis(outputs.calibrated, outputs.named[:, None], axis=1)
    table["confidence"] = confidence[:, 0].round(DIGITS)
    wrong = table[table["actual"] != table["predicted"]]
    return wrong.sort_values(["confidence", "id"], ascending=[False, True])


def training_curve(teacher: PublishedTeacher) -> pd.DataFrame:
    """Make a row for each epoch; `val_*` is missing where no evaluation was due or none told it."""
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
