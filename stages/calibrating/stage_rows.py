"""The manifest and a stage's filter -> the rows that its models are fitted and reported on.

In domain is what the stage's own filter admits, in val and in test alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from stages.calibrating.published import Manifest, Mask, PublishedTeacher
from stages.config import Filter
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
    """Rows to fit on, to report on, and of gates without those that chose or fitted the model.

    `admitted` are the ids that the stage's filter lets through: a gate row among them is in domain.
    """

    val: KeptRows
    test: KeptRows
    gates: Mapping[str, KeptRows]
    admitted: frozenset[str]

    @property
    def places(self) -> dict[str, KeptRows]:
        """Test and each gate, by its name in the score table."""
        return {"test": self.test} | {f"gate:{name}": rows for name, rows in self.gates.items()}


def stage_rows(
    manifest: Manifest, *, rows: Filter, stage: str, started_from: Mapping[str, Filter]
) -> StageRows:
    """Choose the rows by the filter that the stage's teachers were trained with.

    `started_from` are the filters of the stages whose weights they started from: the val rows that
    chose these weights leave the gates too.

    Raises:
        UserError: if a name of the filter matches no row.
    """
    admitted = manifest.admitted(rows, key=f"{stage}.filter")
    val, test = (admitted[admitted["split"] == split] for split in ("val", "test"))
    chosen_by = {f"val of {stage}, which chose its weights": set(val["group"])}
    for earlier, earlier_filter in started_from.items():
        known = manifest.admitted(earlier_filter, key=f"{earlier}.filter")
        reason = f"val of {earlier}, which chose the weights that {stage} started from"
        chosen_by[reason] = set(known.loc[known["split"] == "val", "group"])
    gates = {}
    for name, gate in manifest.gates.items():
        kept = KeptRows(gate)
        for place, groups in chosen_by.items():
            among = np.asarray(kept.frame["group"].isin(groups))
            kept = kept.without(among, reason=f"the row or a copy of it is in {place}")
        gates[name] = kept
    return StageRows(KeptRows(val), KeptRows(test), gates, frozenset(admitted["id"]))


def rows_of(
    teachers: Sequence[PublishedTeacher],
    *,
    manifest: Manifest,
    earlier: Sequence[Sequence[PublishedTeacher]],
) -> StageRows:
    """Choose the rows of a stage, by the filter that all of its teachers were trained with.

    `earlier` are the teachers of the stages that they started from, in the same order.

    Raises:
        UserError: if they were not trained with one filter, or know less than they started from.
    """
    for older in earlier:
        for teacher, start in zip(teachers, older, strict=True):
            _require_start(teacher, start)
    return stage_rows(
        manifest,
        rows=_filter_of(teachers),
        stage=teachers[0].stage,
        started_from={older[0].stage: _filter_of(older) for older in earlier},
    )


def lineage(stage: str, *, init_from: Mapping[str, str | None]) -> list[str]:
    """The stages that a stage started from, the nearest first."""
    found: list[str] = []
    while (earlier := init_from.get(found[-1] if found else stage)) is not None:
        found.append(earlier)
    return found


def _require_start(teacher: PublishedTeacher, start: PublishedTeacher) -> None:
    seen, seen_before = (set(one.logits.index[one.logits["seen"]]) for one in (teacher, start))
    if unknown := seen_before - seen:
        raise UserError(
            f"params.yaml: {teacher.stage}.init_from: {start.stage}, but models/{teacher.stage}/"
            f"{teacher.name} has not seen {len(unknown)} rows that {start.stage} has; run "
            f"`dvc repro {teacher.stage}@{teacher.name}`"
        )


def _filter_of(teachers: Sequence[PublishedTeacher]) -> Filter:
    """Return the filter that all teachers of a stage were trained with."""
    first = teachers[0]
    for teacher in teachers[1:]:
        if teacher.filter != first.filter:
            raise UserError(
                f"models/{first.stage}: alignmentreport.json: filter: {first.name} and "
                f"{teacher.name} were trained on other rows; train them again with one recipe"
            )
    return first.filter
