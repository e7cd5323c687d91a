"""The grammar by which stages and views choose rows of the manifest.

A name that matches nothing is an error, always: a filter that silently selects nothing is how a
source stays out of training for months.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from stages.config import CLASSES, Filter, View
from stages.runtime.errors import UserError, did_you_mean
from stages.runtime.seed import derive_seed

SourceGroups = Mapping[str, Sequence[str]]


def select(
    frame: pd.DataFrame, rows: Filter, *, key: str, source_groups: SourceGroups
) -> pd.DataFrame:
    """The rows of `frame` that a filter lets through, in their order.

    A row without a detector confidence passes `min_confidence`. `max_per_class` holds in each
    split and takes rows by a hash of their ids: the same ones on every machine, and adding rows
    replaces few of them.

    Args:
        frame: rows of the manifest.
        rows: the filter.
        key: the filter's place in params.yaml, such as `stageA.filter`.
        source_groups: names that stand for several sources.

    Raises:
        UserError: if a name matches no row, no row of an included name passes, or none is left.
    """
    names = _SourceNames(frame["source"], source_groups, key)
    mask = ~frame["source"].isin(names.sources("exclude_sources", rows.exclude_sources))
    if rows.include_sources:
        mask &= frame["source"].isin(names.sources("include_sources", rows.include_sources))
    mask &= frame["native_px"] >= rows.min_native_px
    mask &= ~(frame["confidence"] < rows.min_confidence)
    selected = frame[mask]
    if rows.max_per_class is not None:
        selected = _first_per_class(selected, rows.max_per_class)
    names.require_all(rows, selected["source"])
    return selected


def admit(
    frame: pd.DataFrame, rows: Filter, *, key: str, source_groups: SourceGroups
) -> pd.DataFrame:
    """`select` without `max_per_class`, which thins training only."""
    whole = rows.model_copy(update={"max_per_class": None})
    return select(frame, whole, key=key, source_groups=source_groups)


def select_view(
    frame: pd.DataFrame, view: View, *, key: str, source_groups: SourceGroups
) -> pd.DataFrame:
    """`select`, then the view's splits."""
    selected = select(frame, view, key=key, source_groups=source_groups)
    in_splits = selected[selected["split"].isin(view.splits)]
    _SourceNames(frame["source"], source_groups, key).require_all(view, in_splits["source"])
    return in_splits


def require_classes(rows: pd.DataFrame, *, key: str) -> None:
    """Refuse rows to train on in which a class is missing.

    Raises:
        UserError: naming the classes without a row, and the counts of the others.
    """
    counts = {name: int((rows["label"] == name).sum()) for name in CLASSES}
    if missing := [name for name, count in counts.items() if count == 0]:
        raise UserError(
            f"params.yaml: {key}: expected train rows of every class, got none of {missing}; "
            f"rows: {counts}"
        )


class _SourceNames:
    """The names that a filter may use: sources that have rows, and groups of such sources."""

    def __init__(self, sources: pd.Series, groups: SourceGroups, key: str) -> None:
        self._known = sorted(sources.unique())
        self._groups = groups
        self._key = key

    def sources(self, field: str, names: Iterable[str]) -> set[str]:
        """The sources meant by the names of one field."""
        return {source for name in names for source in self._members(name, field)}

    def require_all(self, rows: Filter, selected: pd.Series) -> None:
        """Every included name has rows left, and there are rows at all."""
        left = set(selected.unique())
        for name in rows.include_sources:
            if not left.intersection(self._members(name, "include_sources")):
                raise UserError(
                    f"params.yaml: {self._key}.include_sources: expected rows of {name!r}, but "
                    f"the filter lets none pass; sources with rows left: {sorted(left)}"
                )
        if not left:
            raise UserError(
                f"params.yaml: {self._key}: expected some rows, but the filter lets none pass; "
                f"known sources: {self._known}"
            )

    def _members(self, name: str, field: str) -> Sequence[str]:
        if name in self._known:
            return [name]
        place = f"{self._key}.{field}"
        if name not in self._groups:
            raise self._unknown(place, name, sorted({*self._known, *self._groups}))
        for member in self._groups[name]:
            if member not in self._known:
                raise self._unknown(f"manifest.source_groups.{name}", member, self._known)
        return self._groups[name]

    def _unknown(self, place: str, name: str, known: Sequence[str]) -> UserError:
        hint = did_you_mean(name, known)
        message = f"params.yaml: {place}: no rows of source {name!r}; known: {list(known)}"
        return UserError(f"{message}; {hint}" if hint else message)


def _first_per_class(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    order = pd.Series(
        [derive_seed(0, "max_per_class", id_) for id_ in rows["id"]], rows.index, dtype="int64"
    )
    rank = order.groupby([rows["split"], rows["label"]]).rank(method="first")
    return rows[rank <= limit]
