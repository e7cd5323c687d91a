"""All that the manifest's numbers, warnings and pictures are drawn from, put together once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from stages.config import Filter
from stages.records.frozen import FrozenManifest
from stages.records.views import SourceGroups, require_classes, select
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


def _train_rows(
    rows: pd.DataFrame, chosen: Filter, *, key: str, source_groups: SourceGroups
) -> pd.DataFrame:
    selected = select(rows[_STAGE_COLUMNS], chosen, key=key, source_groups=source_groups)
    train = selected[selected["split"] == "train"]
    require_classes(train, key=key)
    return train
