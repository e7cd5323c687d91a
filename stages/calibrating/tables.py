"""Assessments -> the CSVs of every picture, for `dvc plots` and for the report."""

from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from stages.calibrating.assessment import Assessment
from stages.calibrating.blocks import Block, Evidence
from stages.calibrating.model import FUSED_NAMES
from stages.calibrating.published import STAGES, PublishedTeacher
from stages.config import CLASSES
from stages.runtime.tables import write_csv
from stages.scoring.confidence import risk_coverage, wilson_interval
from stages.scoring.metrics import reliability_table

TRAINING_COLUMNS = (
    "epoch", "step", "learning_rate", "margin_rad", "train_loss",
    "val_accuracy", "val_macro_f1", "val_nll",
)  # fmt: skip
# What is drawn of each source.
SOURCE_METRICS = ("accuracy", "macro_f1")

_DIGITS = 6


def write_plot_data(
    folder: Path,
    *,
    assessments: Sequence[Assessment],
    teachers: Sequence[PublishedTeacher],
    metrics: Block,
    bins: int,
) -> None:
    """Fill a folder for each kind of picture with a `<stage>_<model>.csv` each.

    Drawn are the teachers and the fusion that `metrics`, those of metrics/teachers.json, exports.
    `sources/` has one `<stage>.csv`. A teacher without epochs (passed through) has no training
    curve and no file.
    """
    hidden = set(FUSED_NAMES.values()) - {metrics["verdict"][0]["model"]}
    for one in assessments:
        if one.model.name in hidden:
            continue
        tables = {
            "reliability": reliability_rows(one.in_domain, bins=bins),
            "risk_coverage": risk_coverage(one.in_domain.pair.scaled, one.in_domain.targets),
            "confusion": confusion_rows(one.in_domain),
            "mistakes": mistakes(one.in_domain),
        }
        for kind, table in tables.items():
            _write(folder / kind / f"{one.model.stage}_{one.model.name}.csv", table)
    for teacher in teachers:
        if teacher.history:
            name = f"{teacher.stage}_{teacher.name}.csv"
            _write(folder / "training" / name, training_curve(teacher))
    for stage in STAGES:
        _write(folder / "sources" / f"{stage}.csv", source_rows(_without(metrics[stage], hidden)))


def reliability_rows(evidence: Evidence, *, bins: int) -> pd.DataFrame:
    """A row for each confidence bin with rows, before (`raw`) and after (`scaled`) calibration.

    `low, high` are the bin's edges, `confidence` and `accuracy` means of its `count` rows, and
    `accuracy_low, accuracy_high` the accuracy's 95 % interval.
    """
    parts = []
    for name, probabilities in (("raw", evidence.pair.raw), ("scaled", evidence.pair.scaled)):
        table = reliability_table(probabilities, evidence.targets, bins=bins)
        table = table[table["count"] > 0]
        low, high = wilson_interval(table["accuracy"] * table["count"], table["count"])
        parts.append(table.assign(accuracy_low=low, accuracy_high=high, probabilities=name))
    rows = pd.concat(parts)
    return rows[["probabilities", *rows.columns.drop("probabilities")]]


def confusion_rows(evidence: Evidence) -> pd.DataFrame:
    """One row a face: actual and predicted class, as DVC's confusion templates count them."""
    names = pd.Index(CLASSES)
    return pd.DataFrame(
        {
            "actual": names[evidence.targets],
            "predicted": names[evidence.pair.scaled.argmax(axis=1)],
        }
    )


def mistakes(evidence: Evidence) -> pd.DataFrame:
    """`id, source, actual, predicted, confidence` of each misread face, most confident first."""
    known = evidence.rows[["id", "source"]].reset_index(drop=True)
    table = pd.concat([known, confusion_rows(evidence)], axis=1)
    table["confidence"] = evidence.pair.scaled.max(axis=1).round(_DIGITS)
    wrong = table[table["actual"] != table["predicted"]]
    return wrong.sort_values(["confidence", "id"], ascending=[False, True])


def training_curve(teacher: PublishedTeacher) -> pd.DataFrame:
    """One row an epoch; `val_*` is missing where no evaluation was due."""
    rows = []
    for entry in teacher.history:
        val = {f"val_{key}": value for key, value in (entry["val"] or {}).items()}
        rows.append(entry | val)
    return pd.DataFrame(rows).reindex(columns=list(TRAINING_COLUMNS))


def source_rows(models: Block) -> pd.DataFrame:
    """A row for each source in domain and each gate, and for each of `SOURCE_METRICS`.

    `model, source, n, classes, metric, value, low, high`; `classes` of the seven are among the n.
    """
    rows = []
    for model, numbers in models.items():
        in_domain = numbers["test"] if "test" in numbers else numbers["val"]
        places = {row["source"]: row for row in in_domain["per_source"]}
        for name, gate in numbers["gates"].items():
            if gate["n"]:
                places[f"gate {name}"] = _scaled(gate) | {"classes": gate["classes"]}
        rows += [
            {"model": model, "source": source}
            | {"n": row["n"], "classes": row["classes"], "metric": metric}
            | dict(zip(("value", "low", "high"), (row[metric], *row[f"{metric}_95"]), strict=True))
            for source, row in places.items()
            for metric in SOURCE_METRICS
        ]
    return pd.DataFrame(rows)


def _without(models: Block, names: Collection[str]) -> Block:
    return {name: numbers for name, numbers in models.items() if name not in names}


def _scaled(block: Block) -> Block:
    row: Block = next(one for one in block["scores"] if one["probabilities"] == "scaled")
    return row


def _write(path: Path, frame: pd.DataFrame) -> None:
    # Vega draws an empty cell as 0 and passes over the text "nan".
    rounded = frame.round(_DIGITS)
    write_csv(path, rounded.astype(object).where(rounded.notna(), "nan"))
