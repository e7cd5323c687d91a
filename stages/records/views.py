"""The grammar by which stages and views choose rows of the manifest.

A name that matches nothing is an error, always: a filter that silently selects nothing is how a
source stays out of training for months.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

import numpy as np
import pandas as pd

from stages.config import CLASSES, Filter
from stages.records.schema import SPLITS
from stages.runtime.errors import UserError, did_you_mean
from stages.runtime.seed import derive_seed

# The smallest `native_px` of each bucket, px: sources and stages are compared by real detail.
EDGES = (0, 32, 48, 64, 96, 128, 192, 256, 384)
BUCKETS = (
    f"lt{EDGES[1]}",
    *(f"{low}_{high - 1}" for low, high in pairwise(EDGES[1:])),
    f"ge{EDGES[-1]}",
)

SourceGroups = Mapping[str, Sequence[str]]


def select(
    frame: pd.DataFrame,
    rows: Filter,
    *,
    key: str,
    source_groups: SourceGroups,
    splits: Sequence[str] = SPLITS,
) -> pd.DataFrame:
    """The rows of the manifest that a filter lets through, of these splits, in their order.

    A row without a detector confidence passes `min_confidence`. `max_per_class` holds in each
    split and takes rows by a hash of their ids: the same ones on every machine, and adding rows
    replaces few of them. `key` is the filter's place in params.yaml, such as `stageA.filter`.

    Raises:
        UserError: if a name matches no row, no row of an included name passes, or none is left.
    """
    sources = frame["source"]
    known = sorted(sources.unique())
    excluded, included = (
        {
            name: _sources_of(name, key=f"{key}.{field}", known=known, groups=source_groups)
            for name in getattr(rows, field)
        }
        for field in ("exclude_sources", "include_sources")
    )
    mask = ~sources.isin([*chain(*excluded.values())]) & frame["split"].isin(splits)
    if included:
        mask &= sources.isin([*chain(*included.values())])
    mask &= frame["native_px"] >= rows.min_native_px
    mask &= ~(frame["confidence"] < rows.min_confidence)
    selected = frame[mask]
    if rows.max_per_class is not None:
        hashes = [derive_seed(0, "max_per_class", id_) for id_ in selected["id"]]
        order = pd.Series(hashes, selected.index, dtype="int64")
        rank = order.groupby([selected["split"], selected["label"]]).rank(method="first")
        selected = selected[rank <= rows.max_per_class]
    left = sorted(selected["source"].unique())
    for name, members in included.items():
        if not {*members}.intersection(left):
            raise UserError(
                f"params.yaml: {key}.include_sources: expected rows of {name!r}, but the filter "
                f"lets none pass; sources with rows left: {left}"
            )
    if not left:
        raise UserError(
            f"params.yaml: {key}: expected some rows, but the filter lets none pass; "
            f"known sources: {known}"
        )
    return selected


def admit(
    frame: pd.DataFrame, rows: Filter, *, key: str, source_groups: SourceGroups
) -> pd.DataFrame:
    """`select` without `max_per_class`, which thins training only."""
    whole = rows.model_copy(update={"max_per_class": None})
    return select(frame, whole, key=key, source_groups=source_groups)


def require_classes(rows: pd.DataFrame, *, key: str) -> None:
    """Refuse rows to train on in which a class is missing, with the counts of all classes."""
    counts = {name: int((rows["label"] == name).sum()) for name in CLASSES}
    if missing := [name for name, count in counts.items() if count == 0]:
        raise UserError(
            f"params.yaml: {key}: expected train rows of every class, got none of {missing}; "
            f"rows: {counts}"
        )


def size_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Number of rows by source (index, sorted) and native size (a column for each of BUCKETS)."""
    buckets = pd.cut(rows["native_px"], [*EDGES, np.inf], right=False, labels=BUCKETS)
    table = pd.crosstab(rows["source"], buckets, dropna=False)
    return table.set_axis(list(BUCKETS), axis="columns")


def _sources_of(
    name: str, *, key: str, known: Sequence[str], groups: SourceGroups
) -> Sequence[str]:
    """The sources that a name in a filter means: itself, or the members of its group."""
    place, unknown, expected = key, name, sorted({*known, *groups})
    if name in known:
        return [name]
    if name in groups:
        missing = [member for member in groups[name] if member not in known]
        if not missing:
            return groups[name]
        place, unknown, expected = f"manifest.source_groups.{name}", missing[0], list(known)
    message = f"params.yaml: {place}: no rows of source {unknown!r}; known: {expected}"
    hint = did_you_mean(unknown, expected)
    raise UserError(f"{message}; {hint}" if hint else message)
