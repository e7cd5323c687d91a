"""Which rows a run learns from, chooses by and is scored on, and the report that says so."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.config import CLASSES, Filter
from stages.records.folder import read_folder
from stages.records.native_sizes import size_table
from stages.records.views import require_classes, select
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_json


@dataclass(frozen=True)
class Rows:
    """Rows of the manifest: to train on, to choose the best epoch by, and to publish logits of."""

    manifest: pd.DataFrame
    manifest_sha256: str
    train: pd.DataFrame
    val: pd.DataFrame
    scored: pd.DataFrame

    def sha256(self) -> str:
        """Of the ids to train on and to choose by; source groups and filters show only here."""
        return sha256_json([self.train["id"].tolist(), self.val["id"].tolist()])

    def seen(self) -> np.ndarray:
        """(len(scored),) bool: the row, or another of its group, is trained on in this run."""
        return self.scored["group"].isin(set(self.train["group"])).to_numpy()


def choose_rows(manifests: Path, *, rows: Filter, key: str) -> Rows:
    """Apply a stage's filter to the train and val rows of the manifest.

    `max_per_class` thins training only. Logits are published for every val and test row and for
    every row of a gate view, whatever the filter says, so that stages meet on the same rows.

    Raises:
        UserError: for a source without rows, a class without a train row, or no val row.
    """
    published = read_folder(manifests)
    manifest, groups = published.rows, published.source_groups
    whole = rows.model_copy(update={"max_per_class": None})
    chosen = select(manifest, whole, key=key, source_groups=groups)
    thinned = select(manifest, rows, key=key, source_groups=groups)
    train, val = thinned[thinned["split"] == "train"], chosen[chosen["split"] == "val"]
    require_classes(train, key=key)
    if val.empty:
        raise UserError(f"params.yaml: {key}: leaves no val rows to choose the best epoch by")
    in_gates = {id_ for gate in published.gates.values() for id_ in gate["id"]}
    is_scored = manifest["split"].isin(["val", "test"]) | manifest["id"].isin(in_gates)
    return Rows(manifest, published.sha256, train, val, manifest[is_scored])


def alignment_report(rows: Rows, *, section: Filter) -> dict[str, Any]:
    """Rows before and after the filter, by class, source and native size."""
    before = rows.manifest
    return {
        "manifest_sha256": rows.manifest_sha256,
        "filter": section.model_dump(mode="json"),
        "train": {
            "before": _counts(before[before["split"] == "train"]),
            "after": _counts(rows.train),
        },
        "val": {"before": _counts(before[before["split"] == "val"]), "after": _counts(rows.val)},
        "scored_rows": len(rows.scored),
        "scored_rows_seen_in_training": int(rows.seen().sum()),
    }


def _counts(rows: pd.DataFrame) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "by_class": {name: int((rows["label"] == name).sum()) for name in CLASSES},
        "by_source": _as_numbers(rows["source"].value_counts().sort_index()),
        "by_native_px": _as_numbers(size_table(rows).sum()),
    }


def _as_numbers(counts: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in counts.items()}
