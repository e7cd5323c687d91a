"""The survey as long tables for `dvc plots`: plots/data/manifest/*.csv."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.config import CLASSES
from stages.records.native_sizes import size_table
from stages.records.schema import SPLITS
from stages.runtime.tables import write_csv
from stages.survey.indexes import SourceIndex
from stages.survey.relations import matrix
from stages.survey.survey import Survey

# The selection that is every row of the manifest; the others are named like stages.
EVERY_ROW = "manifest"
_SHARE_DIGITS = 6


def write_plot_data(folder: Path, survey: Survey) -> None:
    """Write `rows.csv`, `native_px.csv`, `duplicates.csv` and `rejects.csv`."""
    tables = {
        "rows": row_counts(survey.frozen.rows),
        "native_px": native_px_counts({EVERY_ROW: survey.frozen.rows, **survey.stages}),
        "duplicates": matrix(survey.related).round({"same_label": _SHARE_DIGITS}),
        "rejects": reject_counts(survey.indexes),
    }
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)


def row_counts(rows: pd.DataFrame) -> pd.DataFrame:
    """`source`, `split`, `label`, `rows`: each class of each split that a source has."""
    table = pd.crosstab([rows["source"], rows["split"]], rows["label"])
    table = table.reindex(columns=list(CLASSES), fill_value=0)
    places = [
        (source, split)
        for source in table.index.unique(level=0)
        for split in SPLITS
        if (source, split) in table.index
    ]
    table = table.reindex(pd.MultiIndex.from_tuples(places, names=["source", "split"]))
    return _long(table, name="label")


def native_px_counts(selections: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """`selection`, `source`, `bucket`, `rows`: each bucket of each source in each selection."""
    parts = []
    for name, rows in selections.items():
        parts.append(_long(size_table(rows), name="bucket").assign(selection=name))
    return pd.concat(parts)[["selection", "source", "bucket", "rows"]]


def reject_counts(indexes: Sequence[SourceIndex]) -> pd.DataFrame:
    """`source`, `reason`, `rows`: what became no face, by source folder."""
    counts = [
        (index.name, reason, rows)
        for index in indexes
        for reason, rows in sorted(index.rejects.items())
    ]
    return pd.DataFrame(counts, columns=["source", "reason", "rows"])


def _long(table: pd.DataFrame, *, name: str) -> pd.DataFrame:
    """A row for each cell, in the order of the table, the old column in the column `name`."""
    columns = list(table.columns)
    long = table.reset_index().melt(
        list(table.index.names), columns, name, "rows", ignore_index=False
    )
    return long.sort_index(kind="stable").reset_index(drop=True)
