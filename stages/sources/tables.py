"""Text tables of raw datasets -> rows, each with its name for rejects.csv, and numbers."""

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from stages.runtime.errors import UserError
from stages.sources.members import UNREADABLE, composed
from stages.sources.tree import RawTree

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_MAX_SHOWN = 80
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# Above, a float no longer tells neighbours apart; no code, count or pixel comes near.
_LARGEST = 10**9
# As AffectNet, numpy, pandas and spreadsheets write that there is no value.
_GAPS = {"", "nan", "none", "null"}


class ColumnRow(NamedTuple):
    """The fields of the columns asked for, in that order; a field that the row lacks is empty.

    `row` is `<member>:<line>`. `problem` says that the row has too few or too many columns.
    """

    row: str
    fields: tuple[str, ...]
    problem: str | None


def column_rows(
    tree: RawTree, member: str, columns: Sequence[str], *, fixed_order: Sequence[str] = ()
) -> Iterator[ColumnRow]:
    """Yield the rows of a CSV by column name; letter case and spaces around names do not matter.

    With `fixed_order`, a table whose first row names none of `columns` has no header and has these
    columns.

    Raises:
        UserError: if a column is missing, or the file is no UTF-8 or no CSV.
    """
    rows = csv_rows(tree, member)
    first = next(rows, None)
    names = [field.lower() for field in first[1]] if first else []
    wanted = [column.lower() for column in columns]
    if first and fixed_order and not set(wanted) & set(names):
        names = [column.lower() for column in fixed_order]
        rows = chain([first], rows)
    if missing := [column for column in columns if column.lower() not in names]:
        raise UserError(f"{member}: expected the columns {list(columns)}, missing {missing}")
    places = [names.index(column) for column in wanted]
    for row, fields in rows:
        chosen = tuple(fields[place] if place < len(fields) else "" for place in places)
        problem = f"expected {len(names)} columns, got {len(fields)}"
        yield ColumnRow(row, chosen, problem if len(fields) != len(names) else None)


def csv_rows(tree: RawTree, member: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (`<member>:<line>`, stripped fields) for each row that is not blank.

    A row is a line: a quote that is never closed spoils its own row and swallows no other.

    Raises:
        UserError: if the file cannot be read, or is no UTF-8 or no CSV.
    """
    for row, text in text_rows(tree, member):
        try:
            fields = [field.strip() for field in next(csv.reader([text], skipinitialspace=True))]
        except csv.Error as error:
            raise UserError(f"{row}: expected a row of a CSV table: {error}") from None
        if any(fields):
            yield row, fields


def text_rows(tree: RawTree, member: str) -> Iterator[tuple[str, str]]:
    """Yield (`<member>:<line>`, stripped text, letters composed) for each line that is not blank.

    Raises:
        UserError: if the file cannot be read or is not UTF-8.
    """
    try:
        with io.TextIOWrapper(tree.open(member), encoding="utf-8-sig", newline="") as file:
            for line_number, line in enumerate(file, start=1):
                if text := line.strip():
                    yield f"{member}:{line_number}", composed(text)
    except UnicodeDecodeError as error:
        why = str(error)
        if error.start == 0 and error.object[:2] in _UTF16_MARKS:
            why = "this is UTF-16, as spreadsheets write it; save it as UTF-8"
        raise UserError(f"{member}: expected text in UTF-8: {why}") from None
    except UNREADABLE as error:
        raise UserError(f"{member}: cannot be read: {type(error).__name__}") from None


def quoted(text: str) -> str:
    """Quote a raw text for a message: in one line, cut where it is long."""
    shown = repr(text)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"


def is_gap(text: str) -> bool:
    """Whether a field says that it has no value."""
    return text.strip().lower() in _GAPS


def number(text: str) -> float | None:
    """Read the finite number that a field holds; None for anything else, such as `nan` or `1_0`."""
    text = text.strip()
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None


def whole(text: str) -> int | None:
    """Read the whole number that a field holds, such as `1` or, as pandas writes it, `1.0`."""
    value = number(text)
    if value is None or not value.is_integer() or abs(value) > _LARGEST:
        return None
    return int(value)


def code(text: str) -> str:
    """Spell a code as the adapters list it, `1` for `1.0`; any other text stays as it is."""
    value = whole(text)
    return text if value is None else str(value)
