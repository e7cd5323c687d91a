"""manifests/ and models/<stage>/<teacher>/ -> checked tables. No image, no weights, no torch.

A teacher's logits are used only if they belong to the manifest at hand and are complete.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.config import CLASSES, Filter
from stages.records.folder import MANIFEST_FILE, read_folder
from stages.records.views import select
from stages.runtime.errors import UserError
from stages.runtime.files import read_json
from stages.runtime.foreign import describe_file
from stages.scoring.metrics import Floats

STAGES = ("stageA", "stageB")

Mask = npt.NDArray[np.bool_]

_LOGITS = [f"logit_{name.lower()}" for name in CLASSES]


@dataclass(frozen=True)
class Manifest:
    """The manifest's rows and each gate view's, by id."""

    sha256: str
    rows: pd.DataFrame
    gates: Mapping[str, pd.DataFrame]
    source_groups: Mapping[str, Sequence[str]]

    @property
    def scored(self) -> pd.Index:
        """Ids of the rows that every teacher has logits of: val, test and the gates."""
        is_scored = (self.rows["split"] != "train") | self.rows["id"].isin(self.gate_ids)
        ids: pd.Index = pd.Index(self.rows.loc[is_scored, "id"])
        return ids

    @property
    def gate_ids(self) -> set[str]:
        """Ids of the rows of all gates."""
        return {id_ for gate in self.gates.values() for id_ in gate["id"]}

    def admitted(self, rows: Filter, *, key: str) -> pd.DataFrame:
        """The rows that a stage's filter lets through; `max_per_class` thins training only.

        Raises:
            UserError: if a name of the filter matches no row.
        """
        whole = rows.model_copy(update={"max_per_class": None})
        return select(self.rows, whole, key=key, source_groups=self.source_groups)


@dataclass(frozen=True)
class PublishedTeacher:
    """One teacher of one stage; `logits` is indexed by id and holds seven logits and `seen`.

    `filter` chose the rows that it was trained on.
    """

    stage: str
    name: str
    weights_sha256: str
    filter: Filter
    logits: pd.DataFrame
    history: list[dict[str, Any]]

    def logits_of(self, rows: pd.DataFrame) -> Floats:
        """Logits (N, 7) float64 of these manifest rows."""
        return self.logits.loc[rows["id"], _LOGITS].to_numpy(dtype=np.float64)

    def seen(self, rows: pd.DataFrame) -> Mask:
        """Which of these manifest rows, or their copies, the weights were trained on, (N,)."""
        return np.asarray(self.logits.loc[rows["id"], "seen"], dtype=np.bool_)


def read_manifest_folder(folder: Path) -> Manifest:
    """Read the manifest and its gate views.

    Raises:
        UserError: if a file is missing, was changed since, or breaks the manifest's schema.
    """
    published = read_folder(folder)
    return Manifest(
        sha256=published.sha256,
        rows=published.rows,
        gates=published.gates,
        source_groups=published.source_groups,
    )


def read_teacher(folder: Path, *, manifest: Manifest) -> PublishedTeacher:
    """Read what `models/<stage>/<teacher>` says of itself.

    Raises:
        UserError: if a file is missing, the teacher belongs to another manifest or class order, or
            its logits are not exactly those of the manifest's val, test and gate rows.
    """
    stage, name = folder.parent.name, folder.name
    made_by = f"dvc repro {stage}@{name}"
    card = _read(folder / "teacher.json", made_by=made_by)
    shown = f"models/{stage}/{name}"
    _check_card(card, shown=f"{shown}/teacher.json", manifest=manifest, made_by=made_by)
    report = _read(folder / "alignmentreport.json", made_by=made_by)
    history = _read(folder / "history.json", made_by=made_by)
    logits = _read(folder / "logits.parquet", made_by=made_by)
    _check_logits(logits, shown=f"{shown}/logits.parquet", manifest=manifest)
    return PublishedTeacher(
        stage=stage,
        name=name,
        weights_sha256=card["weights_sha256"],
        filter=Filter.model_validate_json(json.dumps(report["filter"])),
        logits=logits.set_index("id"),
        history=history,
    )


def _read(path: Path, *, made_by: str) -> Any:
    """The content of a table or a JSON file."""
    shown = "/".join(path.parts[-4:])
    if not path.is_file():
        raise UserError(f"{shown}: expected a file, found none; `{made_by}` makes it")
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else read_json(path)
    except (ValueError, OSError) as error:  # pyarrow raises both for what is no Parquet
        reason = " ".join(str(error).split())
        raise UserError(
            f"{shown}: expected {path.suffix[1:]}, got {describe_file(path)} ({reason}); "
            f"`{made_by}` makes it"
        ) from None


def _check_card(card: dict[str, Any], *, shown: str, manifest: Manifest, made_by: str) -> None:
    if card["manifest_sha256"] != manifest.sha256:
        raise UserError(
            f"{shown}: manifest_sha256: expected {manifest.sha256[:12]}… "
            f"(manifests/{MANIFEST_FILE}), got {card['manifest_sha256'][:12]}…; "
            f"`{made_by}` trains on the manifest at hand"
        )
    if tuple(card["classes"]) != CLASSES:
        raise UserError(f"{shown}: classes: expected {list(CLASSES)}, got {card['classes']}")


def _check_logits(logits: pd.DataFrame, *, shown: str, manifest: Manifest) -> None:
    expected = ["id", *_LOGITS, "seen"]
    if sorted(logits.columns) != sorted(expected):
        raise UserError(f"{shown}: columns: expected {expected}, got {list(logits.columns)}")
    ids = pd.Index(logits["id"])
    wanted, known = manifest.scored, pd.Index(manifest.rows["id"])
    problems = {
        "rows stand more than once": ids[ids.duplicated()],
        f"rows have no logits, of {len(wanted)} val, test and gate rows": wanted.difference(ids),
        f"rows are unknown to manifests/{MANIFEST_FILE}": ids.difference(known),
        "rows hold logits that are not finite": ids[
            ~np.isfinite(logits[_LOGITS].to_numpy(dtype=np.float64)).all(axis=1)
        ],
    }
    lines = [
        f"{shown}: {len(found)} {problem}; the first: {', '.join(map(str, found[:3]))}"
        for problem, found in problems.items()
        if len(found)
    ]
    if lines:
        raise UserError("\n".join(lines))
