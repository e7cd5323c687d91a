"""The manifest as a file: its columns, what holds of each, and reading and writing it checked.

In and out: a frame with `COLUMNS` in that order, text as pandas `str`, missing numbers as NaN,
a row per face, ordered by id. Anything else is one `UserError` that names file, line and column.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.csv

from stages.config import CLASSES
from stages.runtime.errors import UserError
from stages.runtime.files import write_csv

SPLITS = ("train", "val", "test")
SHARE_COLUMNS = tuple(f"p_{name.lower()}" for name in CLASSES)

# Which splits hold a duplicate of a row: any of them, in their order, joined by +.
_SPLIT_SETS = tuple(
    "+".join(chosen) for size in range(len(SPLITS) + 1) for chosen in combinations(SPLITS, size)
)
# Shares are kept to six digits (see `manifest_rows`), so seven of them sum to 1 but for rounding.
_SUM_TOLERANCE = 1e-5
_MAX_PROBLEMS = 10
_NAME = "text without control characters"

Check = Callable[[pd.Series], pd.Series]
Problem = tuple[int, str, str, object]  # position, column, expected, got


def _is_name(values: pd.Series) -> pd.Series:
    return (values.str.len() > 0) & ~values.str.contains(r"[\x00-\x1f\x7f]", regex=True)


def _is_split(values: pd.Series) -> pd.Series:
    return values.isin(SPLITS)


# By column: its type, what holds of its values, and the same in words.
_CELLS: dict[str, tuple[type | str, Check, str]] = {
    "id": (str, _is_name, f"{_NAME}, different in each row"),
    "source": (str, _is_name, "the id up to its first '/'"),
    "label": (str, lambda values: values.isin(CLASSES), f"one of {', '.join(CLASSES)}"),
    "split": (str, _is_split, f"one of {', '.join(SPLITS)}"),
    "official": (str, _is_split, f"one of {', '.join(SPLITS)}, or nothing"),
    "twin_splits": (str, lambda values: values.isin(_SPLIT_SETS), "splits joined by +, or nothing"),
    "group": (str, _is_name, _NAME),
    "photo": (str, _is_name, _NAME),
    "native_px": ("int64", lambda values: values >= 1, "a whole number, 1 or more"),
    "confidence": ("float64", np.isfinite, "a number or nothing"),
    "sha256": (str, lambda values: values.str.fullmatch("[0-9a-f]{64}"), "64 hexadecimal digits"),
    **dict.fromkeys(
        SHARE_COLUMNS,
        ("float64", lambda values: values.between(0, 1), "a share from 0 to 1 or nothing"),
    ),
}
COLUMNS = tuple(_CELLS)
_OPTIONAL = ("official", "confidence", *SHARE_COLUMNS)
_SCHEMA = pa.DataFrameSchema(
    {
        name: pa.Column(
            kind,
            pa.Check(check),
            coerce=kind is not str,
            unique=name == "id",
            nullable=name in _OPTIONAL,
        )
        for name, (kind, check, _) in _CELLS.items()
    }
)


def write_manifest(path: Path, frame: pd.DataFrame) -> str:
    """Check rows and write them atomically, the same bytes for the same rows; return the SHA-256.

    Raises:
        UserError: if a row breaks the schema; nothing is written then.
    """
    return write_csv(path, _checked(path, frame))


def targets_of(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Class numbers (N,) of manifest rows."""
    return pd.Index(CLASSES).get_indexer(pd.Index(rows["label"])).astype(np.int64)


def shares_of(rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """The crowd's votes as shares (N, 7) of manifest rows, NaN in rows without votes."""
    return rows[list(SHARE_COLUMNS)].to_numpy(dtype=np.float64)


def read_manifest(path: Path) -> pd.DataFrame:
    """Read and check a manifest or a view, exactly as it was written: `"nan"`, `"007"` stay text.

    Raises:
        UserError: if the file is missing, malformed, cut off within a row or breaks the schema.
    """
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(COLUMNS, pyarrow.string()), strings_can_be_null=False
    )
    # One thread, because only then does a parse error say which row it means.
    serial = pyarrow.csv.ReadOptions(use_threads=False)
    try:
        table = pyarrow.csv.read_csv(path, read_options=serial, convert_options=options)
    except FileNotFoundError:
        raise UserError(f"{path.name}: no such file in {path.absolute().parent.name}/") from None
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path.name}: not a CSV of the manifest: {error}") from None
    frame = table.to_pandas()
    for column in set(_OPTIONAL) & set(frame.columns):
        frame[column] = frame[column].mask(frame[column] == "")
    return _checked(path, frame)


def source_of(ids: pd.Series) -> pd.Series:
    """The source that each id names: what stands before its first `/`."""
    return ids.str.replace(r"/.*", "", regex=True)


def _checked(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    if (got := list(frame.columns)) != list(COLUMNS):
        raise UserError(f"{path.name}: columns: expected {list(COLUMNS)}, got {got}")
    try:
        frame = _SCHEMA.validate(frame.reset_index(drop=True), lazy=True)
        problems = set(_row_problems(frame))
    except pa.errors.SchemaErrors as error:
        if not (problems := set(_cells(error.failure_cases))):
            raise
    lines = [
        # Line 1 of the file is the header.
        f"{path.name}: line {position + 2}: {column}: expected {expected}, got {got!r}"
        for position, column, expected, got in sorted(problems, key=lambda problem: problem[:2])
    ]
    if len(lines) > _MAX_PROBLEMS:
        more = len(lines) - _MAX_PROBLEMS
        lines[_MAX_PROBLEMS:] = [f"{path.name}: {more} more problems of this kind"]
    if lines:
        raise UserError("\n".join(lines))
    return frame


def _cells(failures: pd.DataFrame) -> Iterator[Problem]:
    """pandera's failure cases as problems; those without a row repeat what others say with one."""
    cells = failures[failures["index"].notna() & failures["column"].isin(COLUMNS)]
    columns = (cells[name].tolist() for name in ("index", "column", "failure_case"))
    for position, column, got in zip(*columns, strict=True):
        yield int(position), column, _CELLS[column][2], got


def _row_problems(frame: pd.DataFrame) -> Iterator[Problem]:
    """What only several cells together can break."""
    ids = frame["id"]
    for row in np.flatnonzero(source_of(ids) != frame["source"]):
        yield int(row), "source", _CELLS["source"][2], frame["source"].iloc[row]
    for row in np.flatnonzero(ids < ids.shift(fill_value="")):
        yield int(row), "id", "rows in the order of their ids", ids.iloc[row]
    # A sum with a missing share in it is NaN: such a row must miss them all.
    sums = frame[list(SHARE_COLUMNS)].sum(axis=1, skipna=False)
    is_empty = frame[list(SHARE_COLUMNS)].isna().all(axis=1)
    column, expected = f"{SHARE_COLUMNS[0]} ...", "seven shares that sum to 1, or none"
    for row in np.flatnonzero(~is_empty & ~((sums - 1).abs() <= _SUM_TOLERANCE)):
        yield int(row), column, expected, float(sums.iloc[row])
