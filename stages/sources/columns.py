"""CSV tables whose first row names the columns: the columns asked for, wherever they stand."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from stages.runtime.errors import UserError
from stages.sources.tables import csv_rows
from stages.sources.tree import RawTree


@dataclass(frozen=True)
class ColumnRow:
    """The fields asked for, in that order; a field that the row lacks is empty.

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
    data: Iterable[tuple[str, list[str]]] = rows
    if first and fixed_order and not set(wanted) & set(names):
        names = [column.lower() for column in fixed_order]
        data = chain([first], rows)
    if missing := [column for column in columns if column.lower() not in names]:
        raise UserError(f"{member}: expected the columns {list(columns)}, missing {missing}")
    places = [names.index(column) for column in wanted]
    for row, fields in data:
        found = tuple(fields[place] if place < len(fields) else "" for place in places)
        problem = f"expected {len(names)} columns, got {len(fields)}"
        yield ColumnRow(row, found, problem if len(fields) != len(names) else None)
