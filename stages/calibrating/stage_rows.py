"""The manifest and the teachers' cards -> rows to fit and to report on, and rows that they know.

In domain is what the stage's own filter admits, in val and in test alike.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from stages.calibrating.published import STAGES, Mask, PublishedTeacher, read_checked_card
from stages.config import Filter
from stages.modeling.card import CARD_FILE, TeacherCard, read_card
from stages.records.folder import ManifestFolder
from stages.records.views import select
from stages.runtime.errors import UserError


@dataclass(frozen=True)
class KeptRows:
    """Manifest rows, and how many were left out of them for what reason."""

    frame: pd.DataFrame
    left_out: Mapping[str, int] = field(default_factory=dict)

    def without(self, mask: Mask, *, reason: str) -> "KeptRows":
        """Leave the rows of the mask (N,) out and count them under the reason."""
        return KeptRows(self.frame[~mask], {**self.left_out, reason: int(mask.sum())})


@dataclass(frozen=True)
class StageRows:
    """Rows to fit on, and by place rows to report on: test, and each `gate:<view>`.

    Gates are without rows that chose or fitted the model. `admitted` are the ids that the stage's
    filter lets through: a gate row among them is in domain.
    """

    val: KeptRows
    places: Mapping[str, KeptRows]
    admitted: frozenset[str]


def rows_of(
    teachers: Sequence[PublishedTeacher], *, models: Path, manifest: ManifestFolder
) -> StageRows:
    """Choose the rows of a stage, by the filter that all of its teachers were trained with.

    Raises:
        UserError: if they were not trained with one filter, or `models` does not hold what they
            started from.
    """
    first = teachers[0]
    for teacher in teachers[1:]:
        if teacher.filter != first.filter:
            raise UserError(
                f"models/{first.stage}: teacher.json: filter: {first.name} and {teacher.name} "
                "were trained on other rows; train them again with one recipe"
            )
    started_from = {
        card.stage: card.filter
        for teacher in teachers
        for card in _earlier_cards(teacher, models=models, manifest=manifest)
    }
    return stage_rows(manifest, rows=first.filter, stage=first.stage, started_from=started_from)


def stage_rows(
    manifest: ManifestFolder, *, rows: Filter, stage: str, started_from: Mapping[str, Filter]
) -> StageRows:
    """Choose the rows by the filter that the stage's teachers were trained with.

    `started_from` are the filters of the stages whose weights they started from: the val rows that
    chose these weights leave the gates too.

    Raises:
        UserError: if a name of the filter matches no row.
    """
    admitted = manifest.admitted(rows, key=f"{stage}.filter")
    val, test = (KeptRows(admitted[admitted["split"] == split]) for split in ("val", "test"))
    chosen_by = {f"val of {stage}, which chose its weights": set(val.frame["group"])}
    for earlier, earlier_filter in started_from.items():
        known = manifest.admitted(earlier_filter, key=f"{earlier}.filter")
        reason = f"val of {earlier}, which chose the weights that {stage} started from"
        chosen_by[reason] = set(known.loc[known["split"] == "val", "group"])
    places = {"test": test}
    for name, gate in manifest.gates.items():
        kept = KeptRows(gate)
        for val_rows, groups in chosen_by.items():
            among = np.asarray(kept.frame["group"].isin(groups))
            kept = kept.without(among, reason=f"the row or a copy of it is in {val_rows}")
        places[f"gate:{name}"] = kept
    return StageRows(val, places, frozenset(admitted["id"]))


def _earlier_cards(
    teacher: PublishedTeacher, *, models: Path, manifest: ManifestFolder
) -> Iterator[TeacherCard]:
    """Read the cards of the weights that a teacher started from, the nearest first."""
    stage, start = teacher.stage, teacher.started_from
    while start is not None:
        shown = f"models/{stage}/{teacher.name}/teacher.json: started_from"
        remedy = f"run `dvc repro {stage}@{teacher.name}`"
        if start.stage not in STAGES[: STAGES.index(stage)]:
            raise UserError(
                f"{shown}.stage: expected a stage before {stage}, got {start.stage}; {remedy}"
            )
        card = read_checked_card(models / start.stage / teacher.name, manifest=manifest)
        if card.weights_sha256 != start.weights_sha256:
            raise UserError(
                f"{shown}: expected the weights of models/{start.stage}/{teacher.name}, "
                f"{card.weights_sha256[:12]}…, got {start.weights_sha256[:12]}…; {remedy}"
            )
        yield card
        stage, start = start.stage, card.started_from


@dataclass(frozen=True)
class KnownPictures:
    """Rows by id, and the pictures of their groups by the hash of their pixels."""

    ids: frozenset[str] = frozenset()
    sha256: frozenset[str] = frozenset()

    def among(self, rows: pd.DataFrame) -> Mask:
        """Mark the rows (N,) that are here, or a copy of them.

        In a table of another manifest a copy is a picture with the same pixels as one here.
        """
        known = rows["id"].isin(self.ids) | rows["sha256"].isin(self.sha256)
        return np.asarray(known, dtype=np.bool_)


@dataclass(frozen=True)
class Past:
    """KnownPictures that weights learnt from, and the val rows that chose and calibrated them.

    `unknown` says why nothing is known of some weights; empty if all is known.
    """

    trained: KnownPictures = KnownPictures()
    val: KnownPictures = KnownPictures()
    unknown: str = ""


def find_past(weights_sha256: Sequence[str], *, models: Path, manifest: ManifestFolder) -> Past:
    """Find the past of the teachers with these weights, and of the weights that they started from.

    They are looked for in `models/<stage>/<teacher>`. Weights that several folders hold (0 epochs
    pass those of an earlier stage through) have the past of them all.
    """
    cards = defaultdict(list)
    for stage in STAGES:
        for path in sorted(models.glob(f"{stage}/*/{CARD_FILE}")):
            card = read_card(path.parent)
            cards[card.weights_sha256].append(card)
    wanted, known, groups = list(weights_sha256), set(), {"train": set[str](), "val": set[str]()}
    while wanted:
        weights = wanted.pop()
        if weights in known:
            continue
        known.add(weights)
        if weights not in cards:
            return Past(unknown=f"no teacher below {models.name}/ has the weights {weights[:12]}…")
        for card in cards[weights]:
            shown, key = f"{card.stage}/{card.teacher}", f"{card.stage}.filter"
            if card.manifest_sha256 != manifest.sha256:
                return Past(unknown=f"{shown} was trained on another manifest than the one at hand")
            if card.started_from is not None:
                wanted.append(card.started_from.weights_sha256)
            # Training was thinned by `max_per_class`, val was not.
            sources = manifest.source_groups
            thinned = select(manifest.rows, card.filter, key=key, source_groups=sources)
            whole = manifest.admitted(card.filter, key=key)
            groups["train"].update(thinned.loc[thinned["split"] == "train", "group"])
            groups["val"].update(whole.loc[whole["split"] == "val", "group"])
    rows = [manifest.rows[manifest.rows["group"].isin(chosen)] for chosen in groups.values()]
    trained, val = (KnownPictures(frozenset(r["id"]), frozenset(r["sha256"])) for r in rows)
    return Past(trained, val)
