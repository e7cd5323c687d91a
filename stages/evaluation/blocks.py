"""One model on one set of rows -> a block of numbers that says what it was fitted and taken on.

DVC shows the plain numbers of a block as columns and passes over its lists, so a block's headline
is plain and its tables are lists of rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.evaluation.bootstrap import Resamples, intervals
from stages.evaluation.calibration import Pair
from stages.evaluation.metrics import Floats, Ints, score
from stages.evaluation.published import Mask
from stages.records.schema import targets_of
from stages.sources.labels import CLASSES

NATIVE_PX_EDGES = (0, 48, 96, 192)

Block = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """A model's probabilities on manifest rows, and where its temperature comes from."""

    rows: pd.DataFrame
    pair: Pair
    fitted_on: str
    reported_on: str

    @property
    def targets(self) -> Ints:
        """Class numbers (N,)."""
        return targets_of(self.rows)

    def only(self, mask: Mask) -> "Evidence":
        """The evidence of the rows of the mask (N,)."""
        pair = Pair(self.pair.raw[mask], self.pair.scaled[mask])
        return Evidence(self.rows[mask], pair, self.fitted_on, self.reported_on)


def block(evidence: Evidence, *, resamples: Resamples, bins: int) -> Block:
    """Headline and tables: raw and scaled with intervals, per class, source and native size."""
    sources, sizes = source_masks(evidence.rows), native_px_masks(evidence.rows)
    scores = score_table(evidence, resamples=resamples, bins=bins)
    return headline(*scores) | {
        "scores": scores,
        "per_class": class_table(evidence, bins=bins),
        "per_source": part_table(evidence, "source", sources, resamples=resamples, bins=bins),
        "per_native_px": part_table(evidence, "native_px", sizes, resamples=resamples, bins=bins),
    }


def headline(raw: Block, scaled: Block) -> Block:
    """The few numbers that DVC shows: of the calibrated model, and NLL and ECE before scaling."""
    return {
        "n": scaled["n"],
        "accuracy": scaled["accuracy"],
        "macro_f1": scaled["macro_f1"],
        "nll": scaled["nll"],
        "nll_raw": raw["nll"],
        "ece": scaled["ece"],
        "ece_raw": raw["ece"],
    }


def score_table(evidence: Evidence, *, resamples: Resamples, bins: int) -> list[Block]:
    """A row for the raw and one for the scaled probabilities, each with its 95 % intervals."""
    return [
        _score_row(evidence, name, resamples=resamples, bins=bins) for name in ("raw", "scaled")
    ]


def class_table(evidence: Evidence, *, bins: int) -> list[Block]:
    """F1 and rows of each class, after scaling."""
    f1 = score(evidence.pair.scaled, evidence.targets, bins=bins)["f1"]
    count = np.bincount(evidence.targets, minlength=len(CLASSES))
    return [
        {"class": name, "n": int(n), "f1": f1[name]} for name, n in zip(CLASSES, count, strict=True)
    ]


def part_table(
    evidence: Evidence, key: str, masks: Mapping[str, Mask], *, resamples: Resamples, bins: int
) -> list[Block]:
    """The scaled row of each part of the rows; `classes` says how many of the seven are there."""
    table = []
    for name, mask in masks.items():
        part = evidence.only(mask)
        row = _score_row(part, "scaled", resamples=resamples.only(mask), bins=bins)
        table.append({key: name, "classes": len(np.unique(part.targets))} | row)
    return table


def source_masks(rows: pd.DataFrame) -> dict[str, Mask]:
    """Which rows (N,) come from each source."""
    source = rows["source"].to_numpy()
    return {str(name): source == name for name in sorted(set(source))}


def native_px_masks(rows: pd.DataFrame) -> dict[str, Mask]:
    """Which rows (N,) have how much real detail, for the buckets that have rows."""
    size = rows["native_px"].to_numpy()
    highs = [*NATIVE_PX_EDGES[1:], np.inf]
    masks = {
        _bucket(low, high): (size >= low) & (size < high)
        for low, high in zip(NATIVE_PX_EDGES, highs, strict=True)
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def rounded(value: Any, *, digits: int = 6) -> Any:
    """The same JSON value with its floats rounded, so that equal results are equal bytes."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {key: rounded(entry, digits=digits) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(entry, digits=digits) for entry in value]
    return value


def _score_row(evidence: Evidence, name: str, *, resamples: Resamples, bins: int) -> Block:
    probabilities: Floats = getattr(evidence.pair, name)
    found = score(probabilities, evidence.targets, bins=bins)
    limits = intervals(probabilities, evidence.targets, resamples=resamples, bins=bins)
    row: Block = {
        "probabilities": name,
        "fitted_on": evidence.fitted_on if name == "scaled" else "nothing",
        "reported_on": evidence.reported_on,
        "n": len(evidence.rows),
    }
    for metric in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece"):
        row[metric] = _value(found, metric)
        if metric in limits:
            row[f"{metric}_95"] = limits[metric]
    return row


def _value(found: Mapping[str, Any], metric: str) -> float:
    return float(found[metric])


def _bucket(low: int, high: float) -> str:
    if low == 0:
        return f"below {high:.0f}"
    return f"{low} to {high - 1:.0f}" if np.isfinite(high) else f"{low} and more"
