"""What a run learns from: rows of the manifest, shards of faces, and its initial weights.

In: manifests/, standardized/, models/ and the stage's params. Out: rows, weights and their hashes.
Initial weights begin a new run; going on with an old one is resuming (checkpoint.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stages.config import CLASSES, Filter, Stage, TeacherParams
from stages.modeling.card import TeacherCard, read_card
from stages.modeling.teacher import WEIGHTS_FILE, Teacher, build_teacher, load_state
from stages.records.folder import read_folder
from stages.records.views import require_classes, select, size_table
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, sha256_file, sha256_json
from stages.runtime.seed import derive_seed
from stages.runtime.watched import check_watched


@dataclass(frozen=True)
class RunRows:
    """Rows of the manifest: to train on, to choose the best epoch by, and to publish logits of."""

    manifest: pd.DataFrame
    manifest_sha256: str
    train: pd.DataFrame
    val: pd.DataFrame
    scored: pd.DataFrame

    def sha256(self) -> str:
        """Hash the ids of train and val; source groups and filters enter a fingerprint by it."""
        return sha256_json([self.train["id"].tolist(), self.val["id"].tolist()])

    def seen(self) -> np.ndarray:
        """(len(scored),) bool: the row, or another of its group, is trained on in this run."""
        return self.scored["group"].isin(set(self.train["group"])).to_numpy()


def choose_rows(manifests: Path, *, rows: Filter, key: str) -> RunRows:
    """Choose a stage's train and val rows by its filter.

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
    return RunRows(manifest, published.sha256, train, val, manifest[is_scored])


def alignment_report(rows: RunRows, *, chosen_by: Filter) -> dict[str, Any]:
    """Count rows before and after the filter, by class, source and native size."""

    def count(part: pd.DataFrame) -> dict[str, Any]:
        by_source, by_size = part["source"].value_counts().sort_index(), size_table(part).sum()
        return {
            "rows": len(part),
            "by_class": {name: int((part["label"] == name).sum()) for name in CLASSES},
            "by_source": {str(name): int(number) for name, number in by_source.items()},
            "by_native_px": {str(name): int(number) for name, number in by_size.items()},
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


def shard_hashes(standardized: Path) -> dict[str, str]:
    """Read the SHA-256 of each shard from the index beside it."""
    return {
        f"{index.parent.name}/{shard}": entry["sha256"]
        for index in sorted(standardized.glob("*/index.json"))
        for shard, entry in read_json(index)["shards"].items()
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


def find_initial_weights(
    models: Path, *, stage_params: Stage, teacher_params: TeacherParams, teacher: str
) -> InitialWeights:
    """Find the file that a run of `teacher` starts from.

    Raises:
        UserError: if a file that is named does not exist, or is not watched by DVC; nothing starts
            from scratch instead.
    """
    if stage_params.init_from is None:
        if teacher_params.weights is None:
            return InitialWeights(None, None)
        backbone, key = Path(teacher_params.weights), f"teachers.{teacher}.weights"
        if not backbone.is_file():
            raise UserError(f"params.yaml: {key}: no file {teacher_params.weights}")
        instead = "copy the file, or link it alone"
        check_watched(backbone, dep=Path("weights"), files=[backbone], key=key, instead=instead)
        return InitialWeights(None, backbone)
    published = models / stage_params.init_from / teacher / WEIGHTS_FILE
    if not published.is_file():
        raise UserError(
            f"{published.as_posix()}: missing, and init_from is {stage_params.init_from}; "
            f"run `dvc repro {stage_params.init_from}@{teacher}` first"
        )
    return InitialWeights(published, None)


def adopt_size_and_scale(stage_params: Stage, initial: InitialWeights) -> Stage:
    """Return the params in force: with 0 epochs, image size and scale are those of the weights."""
    card = initial.card()
    if stage_params.epochs or card is None:
        return stage_params
    arcface = stage_params.arcface.model_copy(update={"scale": card.scale})
    return stage_params.model_copy(update={"image_size": card.image_size, "arcface": arcface})


def build_model(
    initial: InitialWeights,
    *,
    stage_params: Stage,
    teacher_params: TeacherParams,
    teacher: str,
    seed: int,
) -> Teacher:
    """Build the teacher with its initial weights; random numbers come from (seed, teacher)."""
    torch.manual_seed(derive_seed(seed, "weights", teacher))
    if initial.published is not None:
        # Every weight comes from the published file: nothing to fetch or to read before it.
        teacher_params = teacher_params.model_copy(update={"pretrained": False, "weights": None})
    model = build_teacher(
        teacher_params,
        image_size=stage_params.image_size,
        scale=stage_params.arcface.scale,
        key=f"teachers.{teacher}",
    )
    if initial.published is not None:
        load_state(model, initial.published)
    return model
