"""The frozen manifest, the stages' filters and standardize's counts -> the survey.

The manifest's numbers, warnings and pictures are made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from stages.config import Filter
from stages.faces.shards import INDEX, REMEDY, read_index, source_folders
from stages.records.schema import SPLITS
from stages.records.views import SourceGroups, admit, require_classes, select
from stages.runtime.errors import UserError
from stages.splitting.frozen import FrozenManifest
from stages.survey.relations import relations

# Standardize's index.json of each folder, which can hold faces of several sources (`expw` does).
SourceIndexes = Mapping[str, Mapping[str, Any]]

_COUNTED = ("faces", "rejects", "crops", "boxes_partly_outside", "boxes_in_turned_photos")


@dataclass(frozen=True)
class Survey:
    """The frozen manifest, the train rows that each stage's filter selects, standardize's counts.

    `related` are the duplicates by the sources that hold them (see `relations`).
    """

    frozen: FrozenManifest
    stages: Mapping[str, pd.DataFrame]
    indexes: SourceIndexes
    related: pd.DataFrame


def read_indexes(standardized: Path) -> SourceIndexes:
    """Read the counts of all source folders, by name.

    Raises:
        UserError: if there is none, or one was written before these counts were.
    """
    indexes = {folder.name: read_index(folder) for folder in source_folders(standardized)}
    for name, index in indexes.items():
        if missing := [count for count in _COUNTED if count not in index]:
            raise UserError(f"{name}/{INDEX}: expected counts of {missing}; {REMEDY}")
    return indexes


def take_survey(
    frozen: FrozenManifest,
    *,
    filters: Mapping[str, Filter],
    source_groups: SourceGroups,
    indexes: SourceIndexes,
) -> Survey:
    """Select what each stage trains on, by its name, and relate the sources.

    Raises:
        UserError: if a stage's filter names a source that has no rows, or leaves no train row of a
            class: training would refuse it, but only when its turn comes.
    """
    stages = {}
    for name, chosen in filters.items():
        key = f"{name}.filter"
        rows = select(frozen.rows, chosen, key=key, source_groups=source_groups)
        stages[name] = rows[rows["split"] == "train"]
        require_classes(stages[name], key=key)
    related = relations(frozen.drawn, frozen.duplicates)
    return Survey(frozen=frozen, stages=stages, indexes=indexes, related=related)


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
        UserError: for every stage whose filter admits too few val rows, or no test rows if needed.
    """
    least_groups, few = 1, ""
    if report == "val_crossfit":
        least_groups, few = folds, f" of {folds} groups (calibrate.folds) or more"
    problems = []
    for name, chosen in filters.items():
        key = f"{name}.filter"
        admitted = admit(rows, chosen, key=key, source_groups=source_groups)
        seen = admitted["group"].isin(admitted.loc[admitted["split"] == "train", "group"])
        counts = {split: int((admitted["split"] == split).sum()) for split in SPLITS}
        unseen = admitted[~seen].groupby("split")["group"].nunique()
        copies = int(seen.sum()) - counts["train"]
        got = f"it admits {counts}" + f", {copies} of them in groups of train rows" * (copies > 0)
        if unseen.get("val", 0) < least_groups:
            problems.append(
                f"params.yaml: {key}: expected val rows{few}, by which the best epoch is chosen "
                f"and temperatures are fitted; {got}; raise manifest.val_share or widen the filter"
            )
        if report == "test" and "test" not in unseen:
            problems.append(
                f"params.yaml: calibrate.report: test, but {key} leaves no test rows to report "
                f"on; {got}; raise manifest.test_share, widen the filter, or set val_crossfit"
            )
    if problems:
        raise UserError("\n".join(problems))
