"""What a careful person would say of the data: nothing is stopped, all of it is written down.

Codes, and when they are given:
- `exact_balance`: the classes of a dataset's own val or test are more even than chance would have
  them. Either the set was drawn so, or rows were repeated to fill it.
- `few_rows`: a val or test split, of a source or of `all`, with fewer than 30 rows of a class.
- `all_copies`: at least 90 % of a source's rows have a duplicate somewhere in the data.
- `copied_source`: at least 90 % of a source's rows have a duplicate in one other source.
- `upscaled_source`: at least 10 % of a source's rows, and no fewer than 20, have a duplicate with
  less than half of their native_px. Where somebody enlarged pictures, native_px says how large the
  file is, not the face, and `min_native_px` lets them pass.
- `boxes_outside`: more than 2 % of a source's boxes lie partly or wholly outside their photo.
- `turned_boxes`: some of a source's boxes lie in photos that EXIF turns. No dataset says whether it
  counted the stored pixels or the turned ones; docs/formats.md says what is assumed.
- `large_group`: a group of more than 100 rows; the near threshold may chain unlike faces.
- `label_conflicts`: more than 10 % of the duplicates, of `all` or between two sources, disagree
  about the class; counted from 20 duplicates on.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import pandas as pd

from stages.config import CLASSES
from stages.survey.indexes import SourceIndex
from stages.survey.relations import least_twin_px, matrix, rows_with_twin
from stages.survey.survey import Survey

CODES = (
    "exact_balance", "few_rows", "all_copies", "copied_source", "upscaled_source", "boxes_outside",
    "turned_boxes", "large_group", "label_conflicts",
)  # fmt: skip
ALL = "all"

# Chi-squared of 6 degrees of freedom: draws from equally frequent classes are below it once in
# 1,000 draws, and classes of real data are not even equally frequent.
_EVEN_CHI2 = 0.381
_LEAST_PER_CLASS_FOR_BALANCE = 2
_FEW_ROWS = 30
_COPIED_SHARE = 0.9
_UPSCALED_SHARE = 0.1
_LEAST_UPSCALED = 20
_LEAST_ENLARGEMENT = 2
_OUTSIDE_SHARE = 0.02
_LARGE_GROUP = 100
_CONFLICT_SHARE = 0.1
_LEAST_DUPLICATES = 20
_EVALUATED = ("val", "test")


@dataclass(frozen=True)
class DataWarning:
    """A line of warnings.csv; `where` is a source, a source and split, two sources, or a group."""

    code: str
    where: str
    message: str


def find_warnings(survey: Survey) -> list[DataWarning]:
    """All warnings, in the order of CODES."""
    frozen = survey.frozen
    return [
        *exact_balance(frozen.drawn),
        *few_rows(frozen.rows),
        *copies(frozen.drawn, survey.related),
        *upscaled_sources(frozen.drawn, frozen.duplicates),
        *boxes_outside(survey.indexes),
        *turned_boxes(survey.indexes),
        *large_groups(frozen.drawn),
        *label_conflicts(survey.related),
    ]


def as_table(warnings: Sequence[DataWarning]) -> pd.DataFrame:
    """The content of warnings.csv."""
    names = [field.name for field in fields(DataWarning)]
    return pd.DataFrame([astuple(each) for each in warnings], columns=names, dtype="str")


def exact_balance(drawn: pd.DataFrame) -> Iterator[DataWarning]:
    """`exact_balance`, from the splits as the datasets come."""
    for where, counts in _class_counts(drawn.assign(split=drawn["official"])):
        mean = counts.mean()
        chi2 = float(((counts - mean) ** 2).sum() / mean)
        if counts.min() >= _LEAST_PER_CLASS_FOR_BALANCE and chi2 < _EVEN_CHI2:
            yield DataWarning(
                "exact_balance",
                where,
                f"{_range(counts)} rows of each class: drawn so by its makers, or filled up with "
                "repeated or altered pictures?",
            )


def few_rows(rows: pd.DataFrame) -> Iterator[DataWarning]:
    """`few_rows`, from the rows that stay."""
    everything = rows.assign(source=ALL)
    for where, counts in [*_class_counts(everything), *_class_counts(rows)]:
        few = [
            f"{name} {n}" for name, n in zip(CLASSES, counts.tolist(), strict=True) if n < _FEW_ROWS
        ]
        if few:
            yield DataWarning(
                "few_rows", where, f"fewer than {_FEW_ROWS} rows of a class: {', '.join(few)}"
            )


def copies(drawn: pd.DataFrame, related: pd.DataFrame) -> Iterator[DataWarning]:
    """`all_copies`, then `copied_source`."""
    totals = drawn["source"].value_counts()
    twins = rows_with_twin(related)
    twins = twins.assign(total=totals.reindex(twins["source"]).to_numpy("int64"))
    twins = twins[twins["rows"] >= _COPIED_SHARE * twins["total"]]
    anywhere = twins["other"].isna()
    for one in twins[anywhere].to_dict("records"):
        message = f"{_share(one['rows'], one['total'])} of its rows have a duplicate in the data"
        yield DataWarning("all_copies", one["source"], message)
    for one in twins[~anywhere & (twins["other"] != twins["source"])].to_dict("records"):
        found = f"{_share(one['rows'], one['total'])} of its rows"
        yield DataWarning(
            "copied_source", one["source"], f"{found} have a duplicate in {one['other']}"
        )


def upscaled_sources(drawn: pd.DataFrame, duplicates: pd.DataFrame) -> Iterator[DataWarning]:
    """`upscaled_source`, from the rows and their pairs."""
    is_larger = drawn["native_px"] > _LEAST_ENLARGEMENT * least_twin_px(drawn, duplicates)
    counts = is_larger.groupby(drawn["source"]).agg(["sum", "size"])
    for source, larger, total in counts.itertuples():
        if larger >= max(_LEAST_UPSCALED, _UPSCALED_SHARE * total):
            yield DataWarning(
                "upscaled_source",
                source,
                f"{_share(larger, total)} of its rows have a duplicate with less than half of "
                "their native_px: were its pictures enlarged?",
            )


def boxes_outside(indexes: Iterable[SourceIndex]) -> Iterator[DataWarning]:
    """`boxes_outside`, from the counts of standardize."""
    for index in indexes:
        wholly = index.rejects.get("box_outside", 0)
        boxes = index.crops["box"] + index.crops["aligned"] + wholly
        outside = index.boxes_partly_outside + wholly
        if outside > _OUTSIDE_SHARE * boxes:
            yield DataWarning(
                "boxes_outside",
                index.name,
                f"{_share(outside, boxes)} of its boxes reach outside their photo, {wholly} of "
                "them wholly: are they boxes of these very pictures?",
            )


def turned_boxes(indexes: Iterable[SourceIndex]) -> Iterator[DataWarning]:
    """`turned_boxes`, from the counts of standardize."""
    for index in indexes:
        for pixels, count in index.boxes_in_turned_photos.items():
            if count:
                yield DataWarning(
                    "turned_boxes",
                    index.name,
                    f"{count:,} of its boxes lie in photos that EXIF turns; they are taken for "
                    f"boxes of the {pixels} pixels: are the faces under `turned by EXIF` in "
                    f"standardized/{index.name}/sheet.png whole?",
                )


def large_groups(drawn: pd.DataFrame) -> Iterator[DataWarning]:
    """`large_group`, one line for all of them that names the largest."""
    sizes = drawn["group"].value_counts()
    large = sizes[sizes > _LARGE_GROUP]
    if large.empty:
        return
    largest = min(large.index[large == large.iloc[0]])
    members = drawn.loc[drawn["group"] == largest, "source"].value_counts().sort_index()
    held = ", ".join(f"{source} {rows:,}" for source, rows in members.items())
    yield DataWarning(
        "large_group",
        str(largest),
        f"{len(large):,} groups of more than {_LARGE_GROUP} rows hold {large.sum():,} rows; the "
        f"largest has {large.iloc[0]:,} ({held}): does the near threshold chain unlike faces?",
    )


def label_conflicts(related: pd.DataFrame) -> Iterator[DataWarning]:
    """`label_conflicts`, of all duplicates and of each pair of sources."""
    counts = matrix(related)
    counts["conflicts"] = (counts["pairs"] * (1 - counts["same_label"])).round().astype("int64")
    cells = counts.groupby(["source_a", "source_b"])[["pairs", "conflicts"]].sum()
    cells.index = pd.Index([_between(*names) for names in cells.index], dtype="str")
    whole = pd.DataFrame(cells.sum()).T.set_axis([ALL])
    for where, pairs, conflicts in pd.concat([whole, cells]).itertuples():
        if pairs >= _LEAST_DUPLICATES and conflicts > _CONFLICT_SHARE * pairs:
            yield DataWarning(
                "label_conflicts",
                str(where),
                f"{_share(conflicts, pairs)} of the duplicates disagree about the class",
            )


def _class_counts(rows: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """`<source> <split>` and its rows by class (7,), for each val and test that there is."""
    evaluated = rows[rows["split"].isin(_EVALUATED)]
    table = pd.crosstab([evaluated["source"], evaluated["split"]], evaluated["label"])
    table = table.reindex(columns=list(CLASSES), fill_value=0)
    for source in table.index.unique(level=0):
        for split in _EVALUATED:
            if (source, split) in table.index:
                yield f"{source} {split}", table.loc[(source, split)].to_numpy()


def _range(counts: np.ndarray) -> str:
    low, high = counts.min(), counts.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _between(source: str, other: str) -> str:
    return source if source == other else f"{source}+{other}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} ({part:,} of {whole:,})"
