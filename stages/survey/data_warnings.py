"""The survey -> warnings.csv: what looks wrong with the data. A warning stops nothing.

Each function gives one kind of warning and says when; docs/manifest.md lists all of them.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from stages.config import CLASSES
from stages.survey.counts import EVALUATED, class_table
from stages.survey.relations import least_twin_px, matrix, rows_with_twin
from stages.survey.survey import SourceIndexes, Survey

# `where` is a source, a source and a split, two sources, or a group.
WARNING_COLUMNS = ("code", "where", "message")

DataWarnings = Iterator[tuple[str, str, str]]


def find_warnings(survey: Survey) -> pd.DataFrame:
    """Find all warnings, as a table of `WARNING_COLUMNS`."""
    frozen = survey.frozen
    warnings = [
        *exact_balance(frozen.drawn),
        *few_rows(frozen.rows),
        *copies(frozen.drawn, survey.related),
        *upscaled_sources(frozen.drawn, frozen.duplicates),
        *boxes_outside(survey.indexes),
        *turned_boxes(survey.indexes),
        *large_groups(frozen.drawn),
        *label_conflicts(survey.related),
    ]
    return pd.DataFrame(warnings, columns=list(WARNING_COLUMNS), dtype="str")


def exact_balance(drawn: pd.DataFrame) -> DataWarnings:
    """Classes of a dataset's own val or test, of 2 rows or more, are more even than by chance."""
    for where, counts in _class_counts(drawn.assign(split=drawn["official"])):
        low, high = counts.min(), counts.max()
        # Chi-squared of 6 degrees of freedom: draws from equally frequent classes are below 0.381
        # once in 1,000 draws, and classes of real data are not even equally frequent.
        chi2 = ((counts - counts.mean()) ** 2).sum() / counts.mean()
        if low >= 2 and chi2 < 0.381:
            extent = f"{low:,}" if low == high else f"{low:,} to {high:,}"
            doubt = "drawn so by its makers, or filled up with repeated or altered pictures?"
            yield "exact_balance", where, f"{extent} rows of each class: {doubt}"


def few_rows(rows: pd.DataFrame) -> DataWarnings:
    """Val or test, of a source or of `all`, has fewer than 30 rows of a class."""
    for where, counts in [*_class_counts(rows.assign(source="all")), *_class_counts(rows)]:
        few = [f"{name} {n}" for name, n in zip(CLASSES, counts, strict=True) if n < 30]
        if few:
            yield "few_rows", where, f"fewer than 30 rows of a class: {', '.join(few)}"


def copies(drawn: pd.DataFrame, related: pd.DataFrame) -> DataWarnings:
    """At least 90 % of a source's rows have a duplicate, anywhere or in one other source."""
    totals = drawn["source"].value_counts()
    for source, other, rows in rows_with_twin(related).itertuples(index=False):
        if rows < 0.9 * totals[source]:
            continue
        message = f"{_share(rows, totals[source])} of its rows have a duplicate in"
        if pd.isna(other):
            yield "all_copies", source, f"{message} the data"
        elif other != source:
            yield "copied_source", source, f"{message} {other}"


def upscaled_sources(drawn: pd.DataFrame, duplicates: pd.DataFrame) -> DataWarnings:
    """At least 10 % of a source's rows, and 20, have a duplicate below half their native_px.

    Where somebody enlarged pictures, native_px says how large the file is, not the face, and
    `min_native_px` lets them pass.
    """
    is_larger = drawn["native_px"] > 2 * least_twin_px(drawn, duplicates)
    counts = is_larger.groupby(drawn["source"]).agg(["sum", "size"])
    for source, larger, total in counts.itertuples():
        if larger >= max(20, 0.1 * total):
            message = (
                f"{_share(larger, total)} of its rows have a duplicate with less than half of "
                "their native_px: were its pictures enlarged?"
            )
            yield "upscaled_source", source, message


def boxes_outside(indexes: SourceIndexes) -> DataWarnings:
    """More than 2 % of a source's boxes lie partly or wholly outside their photo."""
    for name, index in indexes.items():
        wholly = index["rejects"].get("box_outside", 0)
        boxes = index["crops"]["box"] + index["crops"]["aligned"] + wholly
        outside = index["boxes_partly_outside"] + wholly
        if outside > 0.02 * boxes:
            message = (
                f"{_share(outside, boxes)} of its boxes reach outside their photo, {wholly} of "
                "them wholly: are they boxes of these very pictures?"
            )
            yield "boxes_outside", name, message


def turned_boxes(indexes: SourceIndexes) -> DataWarnings:
    """Some of a source's boxes lie in photos that EXIF turns (see docs/formats.md)."""
    for name, index in indexes.items():
        for pixels, count in index["boxes_in_turned_photos"].items():
            if count:
                message = (
                    f"{count:,} of its boxes lie in photos that EXIF turns; they are taken for "
                    f"boxes of the {pixels} pixels: are the faces under `turned by EXIF` in "
                    f"standardized/{name}/sheet.png whole?"
                )
                yield "turned_boxes", name, message


def large_groups(drawn: pd.DataFrame) -> DataWarnings:
    """Groups of more than 100 rows; one warning, which names the largest group."""
    sizes = drawn["group"].value_counts()
    large = sizes[sizes > 100]
    if len(large):
        largest = min(large.index[large == large.iloc[0]])
        members = drawn.loc[drawn["group"] == largest, "source"].value_counts().sort_index()
        held = ", ".join(f"{source} {rows:,}" for source, rows in members.items())
        message = (
            f"{len(large):,} groups of more than 100 rows hold {large.sum():,} rows; the largest "
            f"has {large.iloc[0]:,} ({held}): does the near threshold chain unlike faces?"
        )
        yield "large_group", str(largest), message


def label_conflicts(related: pd.DataFrame) -> DataWarnings:
    """More than 10 % of 20 or more duplicates, of `all` or of two sources, disagree in class."""
    counts = matrix(related)
    counts["conflicts"] = (counts["pairs"] * (1 - counts["same_label"])).round().astype("int64")
    cells = counts.groupby(["source_a", "source_b"])[["pairs", "conflicts"]].sum()
    cells.index = pd.Index([a if a == b else f"{a}+{b}" for a, b in cells.index], dtype="str")
    whole = pd.DataFrame(cells.sum()).T.set_axis(["all"])
    for where, pairs, conflicts in pd.concat([whole, cells]).itertuples():
        if pairs >= 20 and conflicts > 0.1 * pairs:
            message = f"{_share(conflicts, pairs)} of the duplicates disagree about the class"
            yield "label_conflicts", str(where), message


def _class_counts(rows: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Yield `<source> <split>` and its rows by class (7,), for each val and test with rows."""
    table = class_table(rows[rows["split"].isin(EVALUATED)], "source", "split")
    for (source, split), counts in zip(table.index, table.to_numpy(), strict=True):
        yield f"{source} {split}", counts


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} ({part:,} of {whole:,})"
