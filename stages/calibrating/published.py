"""models/<stage>/<teacher>/ -> checked cards, logits and histories. No image, no weights, no torch.

A teacher's logits are used only if they belong to the manifest at hand and are complete.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.config import CLASSES, Filter
from stages.modeling.card import CARD_FILE, StartedFrom, TeacherCard, read_card
from stages.records.folder import LOGIT_COLUMNS, MANIFEST_FILE, ManifestFolder
from stages.runtime.errors import UserError
from stages.runtime.files import read_json
from stages.runtime.foreign import describe_file
from stages.scoring.metrics import Floats

STAGES = ("stageA", "stageB")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PublishedTeacher:
    """One teacher of one stage; `logits` is indexed by id and holds seven logits and `seen`.

    `filter` chose the rows that it was trained on, `started_from` are its first weights.
    """

    stage: str
    name: str
    weights_sha256: str
    filter: Filter
    started_from: StartedFrom | None
    logits: pd.DataFrame
    history: list[dict[str, Any]]

    def logits_of(self, rows: pd.DataFrame) -> Floats:
        """Return the logits (N, 7) of these manifest rows."""
        return self.logits.loc[rows["id"], list(LOGIT_COLUMNS)].to_numpy(dtype=np.float64)

    def seen(self, rows: pd.DataFrame) -> Mask:
        """Mark the manifest rows (N,) that the weights were trained on, or on a copy of them."""
        return np.asarray(self.logits.loc[rows["id"], "seen"], dtype=np.bool_)


def read_teacher(folder: Path, *, manifest: ManifestFolder) -> PublishedTeacher:
    """Read what `models/<stage>/<teacher>` says of itself.

    Raises:
        UserError: if a file is missing, the teacher belongs to another manifest or class order, or
            its logits are not exactly those of the manifest's val, test and gate rows.
    """
    card = read_checked_card(folder, manifest=manifest)
    history, logits = (_read(folder / name) for name in ("history.json", "logits.parquet"))
    _check_logits(logits, shown="/".join(folder.parts[-3:]), manifest=manifest)
    return PublishedTeacher(
        stage=folder.parent.name,
        name=folder.name,
        weights_sha256=card.weights_sha256,
        filter=card.filter,
        started_from=card.started_from,
        logits=logits.set_index("id"),
        history=history,
    )


def read_checked_card(folder: Path, *, manifest: ManifestFolder) -> TeacherCard:
    """Read a card, if it belongs to the manifest at hand.

    Raises:
        UserError: if it is missing, is no card, or names another manifest or class order.
    """
    _read(folder / CARD_FILE)
    card = read_card(folder)
    shown = f"models/{folder.parent.name}/{folder.name}/{CARD_FILE}"
    if card.manifest_sha256 != manifest.sha256:
        raise UserError(
            f"{shown}: manifest_sha256: expected {manifest.sha256[:12]}… "
            f"(manifests/{MANIFEST_FILE}), got {card.manifest_sha256[:12]}…; "
            f"`dvc repro {folder.parent.name}@{folder.name}` trains on the manifest at hand"
        )
    if card.classes != CLASSES:
        raise UserError(f"{shown}: classes: expected {list(CLASSES)}, got {list(card.classes)}")
    return card


def _read(path: Path) -> Any:
    """Read a table or a JSON file of a teacher."""
    shown, made_by = "/".join(path.parts[-4:]), "dvc repro {}@{}".format(*path.parts[-3:-1])
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


def _check_logits(logits: pd.DataFrame, *, shown: str, manifest: ManifestFolder) -> None:
    shown = f"{shown}/logits.parquet"
    expected = ["id", *LOGIT_COLUMNS, "seen"]
    if sorted(logits.columns) != sorted(expected):
        raise UserError(f"{shown}: columns: expected {expected}, got {list(logits.columns)}")
    ids = pd.Index(logits["id"])
    wanted, known = manifest.scored, pd.Index(manifest.rows["id"])
    is_finite = np.isfinite(logits[list(LOGIT_COLUMNS)].to_numpy(dtype=np.float64)).all(axis=1)
    problems = {
        "rows stand more than once": ids[ids.duplicated()],
        f"rows have no logits, of {len(wanted)} val, test and gate rows": wanted.difference(ids),
        f"rows are unknown to manifests/{MANIFEST_FILE}": ids.difference(known),
        "rows hold logits that are not finite": ids[~is_finite],
    }
    lines = [
        f"{shown}: {len(bad)} {problem}; the first: {', '.join(map(str, bad[:3]))}"
        for problem, bad in problems.items()
        if len(bad)
    ]
    if lines:
        raise UserError("\n".join(lines))
