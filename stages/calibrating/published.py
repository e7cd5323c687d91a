"""models/<stage>/<teacher>/ and the manifest -> checked teachers, and rows to judge them on.

A teacher's logits are used only if they belong to the manifest at hand and are complete. In domain
is what the stage's own filter admits, in val and in test alike. No image, no weights, no torch.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.config import CLASSES, Filter
from stages.modeling.card import CARD_FILE, StartedFrom, TeacherCard, read_card
from stages.records.folder import LOGIT_COLUMNS, MANIFEST_FILE, ManifestFolder
from stages.records.views import select
from stages.runtime.errors import UserError
from stages.runtime.files import read_json
from stages.runtime.foreign import describe_file
from stages.scoring.metrics import Floats

STAGES = ("stageA", "stageB")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PublishedTeacher:
    """One teacher of one stage; `logits` is indexed by id and holds seven logits and `seen`.

    `filter` chose the rows that it was trained on, `started_from` are its first weights,
    `prior_correction` (7,) takes back what training did to the class prior.
    """

    stage: str
    name: str
    weights_sha256: str
    fingerprint: str
    filter: Filter
    started_from: StartedFrom | None
    prior_correction: tuple[float, ...]
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
        fingerprint=card.fingerprint,
        filter=card.filter,
        started_from=card.started_from,
        prior_correction=card.prior_correction,
        logits=logits.set_index("id"),
        history=history,
    )


def read_checked_card(folder: Path, *, manifest: ManifestFolder) -> TeacherCard:
    """Read a card; raise a UserError if it is none, or names another manifest or class order."""
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
class Past:
    """Manifest rows that weights learnt from, and val rows that chose and calibrated them.

    With each row stand all that share its group. `unknown` says why nothing is known of some
    weights; empty if all is known.
    """

    trained: pd.DataFrame
    val: pd.DataFrame
    unknown: str = ""


def mark_known(rows: pd.DataFrame, known: pd.DataFrame) -> Mask:
    """Mark the rows (N,) that have the same pixels as one of the known rows.

    Ids do not tell: in another project's rows they may name other pictures.
    """
    return np.asarray(rows["sha256"].isin(known["sha256"]))


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
    nothing, groups = manifest.rows[:0], {"train": set[str](), "val": set[str]()}
    wanted, known = list(weights_sha256), set()
    while wanted:
        weights = wanted.pop()
        if weights in known:
            continue
        known.add(weights)
        if weights not in cards:
            reason = f"no teacher below {models.name}/ has the weights {weights[:12]}…"
            return Past(nothing, nothing, reason)
        for card in cards[weights]:
            if card.manifest_sha256 != manifest.sha256:
                reason = f"{card.stage}/{card.teacher} was trained on another manifest than the one"
                return Past(nothing, nothing, f"{reason} at hand")
            if card.started_from is not None:
                wanted.append(card.started_from.weights_sha256)
            # Training was thinned by `max_per_class`, val was not.
            key, sources = f"{card.stage}.filter", manifest.source_groups
            thinned = select(manifest.rows, card.filter, key=key, source_groups=sources)
            whole = manifest.admitted(card.filter, key=key)
            for split, rows in (("train", thinned), ("val", whole)):
                groups[split].update(rows.loc[rows["split"] == split, "group"])
    group = manifest.rows["group"]
    trained, val = (manifest.rows[group.isin(groups[split])] for split in ("train", "val"))
    return Past(trained, val)
