"""The one table of numbers: `scores.csv`, a row for each number, and `paired.csv` of differences.

In and out: frames with `COLUMNS` or `PAIRED_COLUMNS`, checked whenever they are written or read.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pandera.pandas as pa

from stages.config import CLASSES
from stages.runtime.errors import UserError
from stages.runtime.files import write_csv
from stages.scoring.bootstrap import METRICS

COLUMNS = (
    "stage", "model", "rows", "by", "part", "label_rule", "probabilities", "decision",
    "metric", "n", "value", "low", "high", "fitted_on", "weights_sha256",
)  # fmt: skip
PAIRED_COLUMNS = (
    "what", "stage", "model", "teacher", "rows", "by", "part",
    "metric", "n", "value", "low", "high", "fitted_on", "weights_sha256",
)  # fmt: skip
FLOORS = ("ece_floor", "ece_floor_95")
# Metrics of the class that is named; all others are of probabilities and their largest.
NAMED = ("accuracy", "balanced_accuracy", "macro_f1", "f1")
# Probabilities of val rows by folds with each refinement, whichever is taken.
REFINED = {"none": "T", "prior": "T_prior", "bias": "T_bias"}
STAGE_GAIN, TEACHER_GAIN, DECISION_GAIN = "stageB-stageA", "with-without", "prior-argmax"
REFINEMENT_GAINS = {"prior": "T_prior-T", "bias": "T_bias-T"}
DIGITS = 6

# The values that a column may have; every other text column is free.
_VOCABULARY: Mapping[str, tuple[str, ...]] = {
    "what": (STAGE_GAIN, TEACHER_GAIN, DECISION_GAIN, *REFINEMENT_GAINS.values()),
    "by": ("all", "source", "native_px", "class", "row_set", "decision", "left_out"),
    "label_rule": ("majority", "votes"),
    "probabilities": ("raw", *REFINED.values(), "calibrated", "crowd"),
    "decision": ("argmax", "prior"),
    "metric": (*METRICS, *FLOORS, "classes", "f1", "kl", "in_domain", "rows"),
}
_PART = ("by", "part", "label_rule", "probabilities")
_NUMBERS = ("n", "value", "low", "high")
_PLACE = r"test|val|(gate|file):.+"
_WEIGHTS = r"[0-9a-f]{64}([-+][0-9a-f]{64})*"


class Score(NamedTuple):
    """One number of the table with its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float
    n: int


def score_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a checked table of scores.

    Raises:
        ValueError: if a promised number is missing, not finite or there twice.
    """
    table = _check_cells(pd.DataFrame(list(rows), columns=list(COLUMNS)))
    _check_complete(table)
    return table


def paired_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a checked table of differences; raise a ValueError as `score_table` does."""
    return _check_cells(pd.DataFrame(list(rows), columns=list(PAIRED_COLUMNS)))


def write_scores(path: Path, table: pd.DataFrame) -> None:
    """Write a table of scores or differences, numbers rounded to six digits."""
    write_csv(path, table.round(DIGITS))


def read_scores(path: Path) -> pd.DataFrame:
    """Read `scores.csv`; raise a UserError if it is missing or is no such table."""
    return _read(path, columns=COLUMNS)


def read_paired(path: Path) -> pd.DataFrame:
    """Read `paired.csv`; raise a UserError if it is missing or is no such table."""
    return _read(path, columns=PAIRED_COLUMNS)


def pick(table: pd.DataFrame, **columns: str) -> pd.DataFrame:
    """Keep the rows in which each column has the value; there may be none.

    Raises:
        KeyError: if there is no such column.
        ValueError: if the column never has such a value.
    """
    mask = pd.Series(True, table.index)
    for column, value in columns.items():
        if column not in table:
            raise KeyError(f"scores have no column {column!r}; known: {list(table.columns)}")
        known = _VOCABULARY.get(column) or tuple(table[column].unique())
        if value not in known:
            raise ValueError(f"scores have no {column} {value!r}; known: {list(known)}")
        mask &= table[column] == value
    return table[mask]


def number(table: pd.DataFrame, metric: str, **columns: str) -> Score:
    """Return the one number that the columns name.

    Raises:
        KeyError: if there is no such column, or not exactly one row.
        ValueError: if a column never has such a value.
    """
    rows = pick(table, metric=metric, **columns)
    if len(rows) != 1:
        raise KeyError(f"scores: expected one row of {metric} for {columns}, got {len(rows)}")
    row = rows.iloc[0]
    return Score(float(row["value"]), float(row["low"]), float(row["high"]), int(row["n"]))


def _schema(columns: Iterable[str]) -> pa.DataFrameSchema:
    patterns = {"rows": _PLACE, "weights_sha256": _WEIGHTS}
    finite = pa.Check.in_range(-1e300, 1e300)
    cells = {name: pa.Column(float, finite, nullable=True) for name in _NUMBERS[1:]}
    cells["n"] = pa.Column("int64", pa.Check.ge(0))
    for name in set(columns) - set(_NUMBERS):
        check = pa.Check.str_matches(f"^({patterns.get(name, '.*')})$")
        if name in _VOCABULARY:
            check = pa.Check.isin(_VOCABULARY[name])
        cells[name] = pa.Column(str, check)
    # `f1` of a class without rows and differences of no rows have no value.
    missing = pa.Check(lambda table: (table["n"] == 0) | table["value"].notna(), error="no value")
    ordered = pa.Check(
        lambda t: ~(t["low"] > t["high"]) & (t["low"].isna() == t["high"].isna()),
        error="low end above high end",
    )
    key = [name for name in columns if name not in (*_NUMBERS, "fitted_on", "weights_sha256")]
    return pa.DataFrameSchema(cells, checks=[missing, ordered], strict=True, unique=key)


_SCHEMAS: dict[tuple[str, ...], pa.DataFrameSchema] = {
    columns: _schema(columns) for columns in (COLUMNS, PAIRED_COLUMNS)
}


def _check_cells(table: pd.DataFrame) -> pd.DataFrame:
    columns = tuple(table.columns)
    types = dict.fromkeys(columns, "str") | dict.fromkeys(_NUMBERS, "float64") | {"n": "int64"}
    checked: pd.DataFrame = _SCHEMAS[columns].validate(table.astype(types))
    return checked


def _read(path: Path, *, columns: tuple[str, ...]) -> pd.DataFrame:
    shown = "/".join(path.parts[-3:])
    if not path.is_file():
        raise UserError(f"{shown}: no such file; `dvc repro calibrate` makes it")
    texts = dict.fromkeys(set(columns) - set(_NUMBERS), "str")
    empty = {name: [""] for name in _NUMBERS}
    try:
        table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty)
        if tuple(table.columns) != columns:
            raise ValueError(f"columns: expected {list(columns)}, got {list(table.columns)}")
        return _check_cells(table)
    except (ValueError, pa.errors.SchemaError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{shown}: not the table that calibrate writes ({reason}); `dvc repro calibrate` "
            "makes it again"
        ) from None


def _check_complete(table: pd.DataFrame) -> None:
    """Refuse scores in which a promised number is missing.

    Each part of a place has all metrics, the parts have the rows of the whole, and all seven
    classes are there.
    """
    for (stage, model, place), rows in table.groupby(["stage", "model", "rows"], sort=False):
        shown, is_full = f"scores: {stage} {model}: {place}", "class" in set(rows["by"])
        parts = rows.groupby(list(_PART), sort=False).agg({"n": "first", "metric": set})
        for (by, part, rule, probabilities), n, metrics in parts.itertuples():
            special = {
                "votes": {"kl"},
                "class": {"f1"},
                "left_out": {"rows"},
                "decision": {*NAMED} - {"f1"},
            }
            if rule == "votes" or by in special:
                expected = special[rule if rule == "votes" else by]
            else:
                expected = {*METRICS, *FLOORS} if n else set()
                expected |= {"classes"} if probabilities == "calibrated" else set()
            if str(place).startswith("gate:") and (by, probabilities) == ("all", "calibrated"):
                expected.add("in_domain")
            if metrics != expected:
                wrong = sorted(metrics ^ expected)
                raise ValueError(f"{shown}: {by} {part}: {probabilities}: missing or extra {wrong}")
        counts = parts["n"]
        for probabilities in ("calibrated", "raw") if is_full else ("calibrated",):
            if ("all", "", "majority", probabilities) not in counts:
                raise ValueError(f"{shown}: no {probabilities} scores of all rows")
        total = counts["all", "", "majority", "calibrated"]
        for by in ("source", "native_px", "class") if is_full else ():
            counted = counts[counts.index.get_level_values("by") == by]
            if counted.sum() != total:
                raise ValueError(f"{shown}: {by}: expected {total} rows, got {counted.sum()}")
            if by == "class" and [*counted.index.get_level_values("part")] != [*CLASSES]:
                raise ValueError(f"{shown}: class: expected a row for each of {list(CLASSES)}")
