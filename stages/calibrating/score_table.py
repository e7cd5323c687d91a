"""The one table of numbers: `scores.csv`, a row for each number, and `paired.csv` of differences.

In and out: frames with `COLUMNS` or `PAIRED_COLUMNS`, checked whenever they are written or read.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pandera.pandas as pa

from stages.faces.labels import CLASSES
from stages.runtime.errors import UserError
from stages.runtime.tables import write_csv
from stages.scoring.bootstrap import METRICS

COLUMNS = (
    "stage", "model", "rows", "by", "part", "label_rule", "probabilities", "decision",
    "metric", "n", "value", "low", "high", "fitted_on", "weights_sha256",
)  # fmt: skip
PAIRED_COLUMNS = (
    "what", "stage", "model", "teacher", "rows", "by", "part",
    "metric", "n", "value", "low", "high", "fitted_on", "weights_sha256",
)  # fmt: skip
# What a model's val rows by folds have: what models are chosen by.
CHOOSING = ("accuracy", "macro_f1", "nll")
FLOORS = ("ece_floor", "ece_floor_95")
STAGE_GAIN, TEACHER_GAIN, BIAS_GAIN = "stageB-stageA", "with-without", "bias-T"
DIGITS = 6

# The values that a column may have; every other text column is free.
_VOCABULARY: Mapping[str, tuple[str, ...]] = {
    "what": (STAGE_GAIN, TEACHER_GAIN, BIAS_GAIN),
    "by": ("all", "source", "native_px", "class", "row_set", "left_out"),
    "label_rule": ("majority", "votes"),
    "probabilities": ("raw", "calibrated", "crowd"),
    "decision": ("argmax",),
    "metric": (*METRICS, *FLOORS, "classes", "f1", "kl", "in_domain", "rows"),
}  # fmt: skip
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
    table = _table(rows, columns=COLUMNS)
    _check_complete(table)
    return table


def paired_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a checked table of differences.

    Raises:
        ValueError: if a number is missing, not finite or there twice.
    """
    return _table(rows, columns=PAIRED_COLUMNS)


def write_scores(path: Path, table: pd.DataFrame) -> None:
    """Write a table of scores or differences, numbers rounded to six digits."""
    write_csv(path, table.round(DIGITS))


def read_scores(path: Path) -> pd.DataFrame:
    """Read `scores.csv`.

    Raises:
        UserError: if it is missing or is no such table.
    """
    return _read(path, columns=COLUMNS)


def read_paired(path: Path) -> pd.DataFrame:
    """Read `paired.csv`.

    Raises:
        UserError: if it is missing or is no such table.
    """
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
    texts = set(columns) - set(_NUMBERS)
    patterns = {"rows": _PLACE, "weights_sha256": _WEIGHTS}
    checks = {
        name: pa.Check.isin(_VOCABULARY[name]) if name in _VOCABULARY
        else pa.Check.str_matches(f"^({patterns.get(name, '.*')})$")
        for name in texts
    }  # fmt: skip
    finite = pa.Check.in_range(-1e300, 1e300)
    cells = {name: pa.Column(str, check) for name, check in checks.items()}
    cells |= {name: pa.Column(float, finite, nullable=True) for name in _NUMBERS[1:]}
    cells["n"] = pa.Column("int64", pa.Check.ge(0))
    # `f1` of a class without rows and differences of no rows have no value.
    missing = pa.Check(lambda table: (table["n"] == 0) | table["value"].notna(), error="no value")
    ordered = pa.Check(
        lambda table: (
            ~(table["low"] > table["high"]) & (table["low"].isna() == table["high"].isna())
        ),
        error="low end above high end",
    )
    key = [name for name in columns if name not in (*_NUMBERS, "fitted_on", "weights_sha256")]
    return pa.DataFrameSchema(cells, checks=[missing, ordered], strict=True, unique=key)


_SCHEMAS = {columns: _schema(columns) for columns in (COLUMNS, PAIRED_COLUMNS)}


def _table(rows: Iterable[Mapping[str, Any]], *, columns: tuple[str, ...]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows), columns=list(columns))
    types = dict.fromkeys(_NUMBERS[1:], float) | {"n": "int64"}
    table = table.astype({name: types.get(name, "str") for name in columns})
    checked: pd.DataFrame = _SCHEMAS[columns].validate(table)
    return checked


def _read(path: Path, *, columns: tuple[str, ...]) -> pd.DataFrame:
    shown = "/".join(path.parts[-3:])
    if not path.is_file():
        raise UserError(f"{shown}: no such file; `dvc repro calibrate` makes it")
    empty = {name: [""] for name in _NUMBERS}
    texts = dict.fromkeys(set(columns) - set(_NUMBERS), "str")
    try:
        table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty)
        return _table(table.to_dict("records"), columns=columns)
    except (ValueError, pa.errors.SchemaError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{shown}: not the table that calibrate writes ({reason}); `dvc repro calibrate` "
            "makes it again"
        ) from None


def _check_complete(table: pd.DataFrame) -> None:
    """Refuse a table of scores in which a promised number is missing.

    Each part of some rows has all metrics, the parts of a place have the rows of the whole, and
    every class is there.
    """
    whole = {*METRICS, *FLOORS}
    for keys, part in table.groupby(["stage", "model", "rows"], sort=False):
        place = part.groupby(["by", "part", "label_rule", "probabilities"], sort=False)
        for (by, name, rule, probabilities), rows in place:
            metrics, n = set(rows["metric"]), rows["n"].iloc[0]
            expected: tuple[set[str], ...] = ({"f1"},) if by == "class" else ({"rows"},)
            if rule == "votes":
                expected = ({"kl"},)
            elif by not in ("class", "left_out"):
                promised = whole if probabilities == "raw" else whole | {"classes"}
                expected = (promised,) if n else ({"classes"},)
                if keys[2].startswith("gate:") and by == "all" and probabilities == "calibrated":
                    expected = tuple(metrics_ | {"in_domain"} for metrics_ in expected)
                if keys[2] == "val":
                    expected = (*expected, {*CHOOSING, "classes"})
            if metrics not in expected:
                lacking = sorted(expected[0] - metrics) or sorted(metrics - expected[0])
                raise ValueError(f"scores: {keys}: {by} {name} {probabilities}: metrics {lacking}")
        _check_parts(part, keys=keys)


def _check_parts(place: pd.DataFrame, *, keys: Any) -> None:
    calibrated = place[
        (place["probabilities"] == "calibrated") & (place["label_rule"] == "majority")
    ]
    total = calibrated.loc[(calibrated["by"] == "all") & (calibrated["metric"] == "classes"), "n"]
    if total.empty:
        raise ValueError(f"scores: {keys}: no row of all")
    if not (calibrated["metric"] == "ece").any():
        return
    for by, metric in (("source", "classes"), ("native_px", "classes"), ("class", "f1")):
        parts = calibrated[(calibrated["by"] == by) & (calibrated["metric"] == metric)]
        if parts["n"].sum() != total.iloc[0]:
            raise ValueError(f"scores: {keys}: parts by {by} hold {parts['n'].sum()} rows")
        if by == "class" and list(parts["part"]) != list(CLASSES):
            raise ValueError(f"scores: {keys}: classes: got {list(parts['part'])}")
