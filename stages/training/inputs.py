"""What a run learns from: rows of the manifest, and weights that a new run begins with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.config import CLASSES, Filter
from stages.modeling.card import TeacherCard, read_card
from stages.records.folder import read_folder
from stages.records.views import require_classes, select, size_table
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file


@dataclass(frozen=True)
class RunRows:
    """Rows of the manifest: to train on, to choose the best epoch by, and to publish logits of."""

    manifest: pd.DataFrame
    manifest_sha256: str
    train: pd.DataFrame
    val: pd.DataFrame
    scored: pd.DataFrame

    def seen(self) -> np.ndarray:
        """(len(scored),) bool: the row, or another of its group, is trained on in this run."""
        return self.scored["group"].isin(set(self.train["group"])).to_numpy()


def choose_rows(manifests: Path, *, rows: Filter, key: str) -> RunRows:
    """Choose a stage's train and val rows by its filter.

    `max_per_class` thins training only. Logits are published for every val and test row and for
    every row of a gate view, whatever the filter says, so that stages meet on the same rows.
    A source without rows, a class without a train row, and no val row are refused.
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
    return RunRows(manifest, published.sha256, train, val, manifest[is_scored])


def alignment_report(rows: RunRows, *, chosen_by: Filter) -> dict[str, Any]:
    """Count rows before and after the filter, by class, source and native size."""

    def count(part: pd.DataFrame) -> dict[str, Any]:
        return {
            "rows": len(part),
            "by_class": {name: int((part["label"] == name).sum()) for name in CLASSES},
            "by_source": part["source"].value_counts().sort_index().to_dict(),
            "by_native_px": size_table(part).sum().to_dict(),
        }

    before = rows.manifest
    return {
        "manifest_sha256": rows.manifest_sha256,
        "filter": chosen_by.model_dump(mode="json"),
        "train": {"before": count(before[before["split"] == "train"]), "after": count(rows.train)},
        "val": {"before": count(before[before["split"] == "val"]), "after": count(rows.val)},
        "scored_rows": len(rows.scored),
        "scored_rows_seen_in_training": int(rows.seen().sum()),
    }


@dataclass(frozen=True)
class InitialWeights:
    """A published teacher's weights, a backbone's weights, or (both None) random numbers."""

    published: Path | None
    backbone: Path | None

    def sha256(self) -> str:
        """Hash the file that the run starts from; empty if there is none."""
        file = self.published or self.backbone
        return "" if file is None else sha256_file(file)

    def card(self) -> TeacherCard | None:
        """Read the card of the published teacher that the weights come from, if there is one."""
        return None if self.published is None else read_card(self.published.parent)

    def seen(self, ids: pd.Series) -> np.ndarray:
        """(len(ids),) bool: the published weights have learnt from this row already."""
        if self.published is None:
            return np.zeros(len(ids), dtype=bool)
        logits = pd.read_parquet(self.published.parent / "logits.parquet", columns=["id", "seen"])
        return ids.isin(logits["id"][logits["seen"]]).to_numpy()
