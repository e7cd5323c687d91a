"""Published weights and the manifest at hand -> which rows of any table they know already."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.calibrating.published import STAGES, Manifest, Mask
from stages.config import Filter
from stages.records.views import select
from stages.runtime.files import read_json


@dataclass(frozen=True)
class Pictures:
    """Rows by id, and the pictures of their groups by the hash of their pixels."""

    ids: frozenset[str] = frozenset()
    sha256: frozenset[str] = frozenset()

    def among(self, rows: pd.DataFrame) -> Mask:
        """Which of the rows (N,), or copies of them, are here.

        In a table of another manifest a copy is a picture with the same pixels as one here.
        """
        found = rows["id"].isin(self.ids) | rows["sha256"].isin(self.sha256)
        return np.asarray(found, dtype=np.bool_)


@dataclass(frozen=True)
class Past:
    """What weights learnt from, and the val rows that chose and calibrated them.

    `unknown` says why nothing is known of some weights; empty if all is known.
    """

    trained: Pictures
    val: Pictures
    unknown: str


def find_past(weights_sha256: Sequence[str], *, models: Path, manifest: Manifest) -> Past:
    """The past of the teachers with these weights, their earlier stages included.

    They are looked for in `models/<stage>/<teacher>`, with the filters that stand there. Weights
    that several folders hold have the past of them all.
    """
    folders = _folders(models)
    if unknown := [sha for sha in weights_sha256 if sha not in folders]:
        reason = f"no teacher below {models.name}/ has the weights {unknown[0][:12]}…"
        return Past(Pictures(), Pictures(), reason)
    lineage = sorted(
        {step for sha in weights_sha256 for folder in folders[sha] for step in _lineage(folder)}
    )
    for folder in lineage:
        if read_json(folder / "teacher.json")["manifest_sha256"] != manifest.sha256:
            shown = "/".join(folder.parts[-2:])
            reason = f"{shown} was trained on another manifest than the one at hand"
            return Past(Pictures(), Pictures(), reason)
    chosen = pd.concat([_chosen(folder, manifest=manifest) for folder in lineage])
    trained, val = (chosen[chosen["split"] == split] for split in ("train", "val"))
    return Past(_pictures(trained, manifest=manifest), _pictures(val, manifest=manifest), "")


def _pictures(rows: pd.DataFrame, *, manifest: Manifest) -> Pictures:
    whole = manifest.rows[manifest.rows["group"].isin(set(rows["group"]))]
    return Pictures(frozenset(whole["id"]), frozenset(whole["sha256"]))


def _folders(models: Path) -> Mapping[str, Sequence[Path]]:
    """The folders that hold each weights: 0 epochs pass those of an earlier stage through."""
    folders = defaultdict(list)
    for card in sorted(path for stage in STAGES for path in models.glob(f"{stage}/*/teacher.json")):
        folders[str(read_json(card)["weights_sha256"])].append(card.parent)
    return folders


def _lineage(folder: Path) -> list[Path]:
    """The teacher and those of its name in earlier stages that it may have started from."""
    earlier = STAGES[: STAGES.index(folder.parent.name)]
    found = [folder.parent.parent / stage / folder.name for stage in earlier]
    before = [path for path in found if (path / "teacher.json").is_file()]
    return [folder, *(path for path in before if _seen(path) <= _seen(folder))]


def _seen(folder: Path) -> set[str]:
    """Saved rows that the weights know. Who starts from weights knows all that they know."""
    logits = pd.read_parquet(folder / "logits.parquet", columns=["id", "seen"])
    return set(logits["id"][logits["seen"]])


def _chosen(folder: Path, *, manifest: Manifest) -> pd.DataFrame:
    """Train rows, thinned as they were in training, and all val rows."""
    report = read_json(folder / "alignmentreport.json")
    rows = Filter.model_validate_json(json.dumps(report["filter"]))
    key = f"{folder.parent.name}.filter"
    thinned = select(manifest.rows, rows, key=key, source_groups=manifest.source_groups)
    whole = manifest.admitted(rows, key=key)
    return pd.concat([thinned[thinned["split"] == "train"], whole[whole["split"] == "val"]])
