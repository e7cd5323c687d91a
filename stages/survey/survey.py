"""All that the manifest's numbers, warnings and pictures are drawn from, put together once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from stages.config import Filter
from stages.records.schema import SPLITS
from stages.records.views import SourceGroups, require_classes, select
from stages.runtime.errors import UserError
from stages.splitting.frozen import FrozenManifest
from stages.survey.indexes import SourceIndex
from stages.survey.relations import relations

_STAGE_COLUMNS = ["id", "source", "label", "split", "native_px", "confidence"]


@dataclass(frozen=True)
class Survey:
    """The frozen manifest, the train rows that each stage's filter selects, standardize's counts.

    `related` are the duplicates by the sources that hold them (see `relations`).
    """

    frozen: FrozenManifest
    stages: Mapping[str, pd.DataFrame]
    indexes: Sequence[SourceIndex]
    related: pd.DataFrame


def take_survey(
    frozen: FrozenManifest,
    *,
    filters: Mapping[str, Filter],
    source_groups: SourceGroups,
    indexes: Sequence[SourceIndex],
) -> Survey:
    """Select what each stage trains on, by its name, and relate the sources.

    Raises:
        UserError: if a stage's filter names a source that has no rows, or leaves a class none to
            train on: training would refuse it, but only when its turn comes.
    """
    return Survey(
        frozen=frozen,
        stages={
            name: _train_rows(frozen.rows, rows, key=f"{name}.filter", source_groups=source_groups)
            for name, rows in filters.items()
        },
        indexes=indexes,
        related=relations(frozen.drawn, frozen.duplicates),
    )


def require_rows_to_report_on(
    rows: pd.DataFrame,
    *,
    filters: Mapping[str, Filter],
    source_groups: SourceGroups,
    report: Literal["test", "val_crossfit"],
    folds: int,
) -> None:
    """Refuse what calibrate would refuse, but only after the nights of training.

    Rows that share a group with train rows do not count: a teacher has learnt from them.

    Raises:
        UserError: for every stage whose filter admits no val rows, fewer groups of them than folds
            where `report` is `val_crossfit`, or no test rows where it is `test`.
    """
    problems = [
        problem
        for name, chosen in filters.items()
        for problem in _missing_rows(
            select(
                rows,
                chosen.model_copy(update={"max_per_class": None}),
                key=f"{name}.filter",
                source_groups=source_groups,
            ),
            key=f"{name}.filter",
            least_groups=folds if report == "val_crossfit" else 1,
            wants_test=report == "test",
        )
    ]
    if problems:
        raise UserError("\n".join(problems))


def _missing_rows(
    found: pd.DataFrame, *, key: str, least_groups: int, wants_test: bool
) -> Iterator[str]:
    """What calibrate will miss among the rows that a stage's filter admits."""
    seen = found["group"].isin(found.loc[found["split"] == "train", "group"])
    admitted = {name: int((found["split"] == name).sum()) for name in SPLITS}
    unseen = found[~seen].groupby("split")["group"].nunique()
    copies = int(seen.sum()) - admitted["train"]
    got = f"it admits {admitted}" + (f", {copies} of them in groups of train rows" * bool(copies))
    if unseen.get("val", 0) < least_groups:
        few = "" if least_groups == 1 else f" of {least_groups} groups (calibrate.folds) or more"
        yield (
            f"params.yaml: {key}: expected val rows{few}, by which the best epoch is chosen and "
            f"temperatures are fitted; {got}; raise manifest.val_share or widen the filter"
        )
    if wants_test and "test" not in unseen:
        yield (
            f"params.yaml: calibrate.report: test, but {key} leaves no test rows to report on; "
            f"{got}; raise manifest.test_share, widen the filter, or set val_crossfit"
        )


def _train_rows(
    rows: pd.DataFrame, chosen: Filter, *, key: str, source_groups: SourceGroups
) -> pd.DataFrame:
    selected = select(rows[_STAGE_COLUMNS], chosen, key=key, source_groups=source_groups)
    train = selected[selected["split"] == "train"]
    require_classes(train, key=key)
    return train
