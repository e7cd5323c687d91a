"""Assessments -> CSVs for `dvc plots`, and a table for people."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from stages.evaluation.assessment import Assessment
from stages.evaluation.blocks import Block, Evidence
from stages.evaluation.published import PublishedTeacher
from stages.evaluation.reliability import reliability_table
from stages.records.tables import write_csv
from stages.sources.labels import CLASSES

TRAINING_COLUMNS = (
    "epoch", "step", "learning_rate", "margin_rad", "train_loss",
    "val_accuracy", "val_macro_f1", "val_nll",
)  # fmt: skip


def write_plot_data(
    folder: Path,
    *,
    assessments: Sequence[Assessment],
    teachers: Sequence[PublishedTeacher],
    bins: int,
) -> None:
    """Fill `reliability/`, `confusion/` and `training/` with one `<stage>_<model>.csv` each.

    A teacher without epochs (passed through) has no training curve and no file.
    """
    for one in assessments:
        name = f"{one.model.stage}_{one.model.name}.csv"
        _write(folder / "reliability" / name, reliability_curve(one.in_domain, bins=bins))
        _write(folder / "confusion" / name, confusion_rows(one.in_domain))
    for teacher in teachers:
        if teacher.history:
            name = f"{teacher.stage}_{teacher.name}.csv"
            _write(folder / "training" / name, training_curve(teacher))


def reliability_curve(evidence: Evidence, *, bins: int) -> pd.DataFrame:
    """Accuracy raw and scaled at the centre of each confidence bin, the diagonal and counts."""
    raw, scaled = (
        reliability_table(probabilities, evidence.targets, bins=bins)
        for probabilities in (evidence.pair.raw, evidence.pair.scaled)
    )
    centre = (raw["low"] + raw["high"]) / 2
    return pd.DataFrame(
        {
            "confidence": centre,
            "diagonal": centre,
            "raw": raw["accuracy"],
            "scaled": scaled["accuracy"],
            "count_raw": raw["count"],
            "count_scaled": scaled["count"],
        }
    ).round(6)


def confusion_rows(evidence: Evidence) -> pd.DataFrame:
    """One row a face: actual and predicted class, as DVC's confusion templates count them."""
    names = pd.Index(CLASSES)
    return pd.DataFrame(
        {
            "actual": names[evidence.targets],
            "predicted": names[evidence.pair.scaled.argmax(axis=1)],
        }
    )


def training_curve(teacher: PublishedTeacher) -> pd.DataFrame:
    """One row an epoch; `val_*` is missing where no evaluation was due."""
    rows = []
    for entry in teacher.history:
        val = {f"val_{key}": value for key, value in (entry["val"] or {}).items()}
        rows.append(entry | val)
    return pd.DataFrame(rows).reindex(columns=list(TRAINING_COLUMNS))


def readable(found: Block) -> str:
    """A model's JSON as a table: in domain, then each gate; raw, then scaled, with intervals."""
    lines = [f"temperature {found['temperature']:.4f}"]
    blocks = {name: entry for name, entry in found.items() if name in ("val", "test")}
    blocks |= {f"gate {name}": entry for name, entry in found["gates"].items()}
    for title, entry in blocks.items():
        lines += ["", *_block_lines(title, entry)]
    return "\n".join(lines)


def _block_lines(title: str, entry: Block) -> Iterator[str]:
    for row in entry.get("left_out", []):
        if row["rows"]:
            yield f"{title}: {row['rows']} rows left out: {row['reason']}"
    if not entry["n"]:
        yield f"{title}: no rows"
        return
    first = entry["scores"][-1]
    yield f"{title}: {entry['n']} rows; fitted on {first['fitted_on']}"
    yield f"  {'':<28}{'accuracy':<20}{'macro-F1':<20}{'NLL':<20}{'Brier':<8}ECE"
    for row in entry["scores"]:
        yield _score_line(row["probabilities"], row)
    for key in ("per_source", "per_native_px"):
        unit = " px" if key == "per_native_px" else ""
        for row in entry[key]:
            yield _score_line(f"{row[key.removeprefix('per_')]}{unit}, n {row['n']}", row)
    yield "  F1: " + ", ".join(f"{row['class']} {row['f1']:.3f}" for row in entry["per_class"])


def _score_line(title: str, row: Block) -> str:
    accuracy, macro_f1, nll, ece = (
        f"{row[name]:.3f} [{row[f'{name}_95'][0]:.3f} {row[f'{name}_95'][1]:.3f}]"
        for name in ("accuracy", "macro_f1", "nll", "ece")
    )
    return f"  {title:<28}{accuracy:<20}{macro_f1:<20}{nll:<20}{row['brier']:<8.3f}{ece}"


def _write(path: Path, frame: pd.DataFrame) -> None:
    # Vega draws an empty cell as 0 and passes over the text "nan".
    write_csv(path, frame.astype(object).where(frame.notna(), "nan"))
