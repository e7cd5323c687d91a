"""Text tables of raw datasets, row by row, each with its name for rejects.csv."""

import csv
from collections.abc import Iterator

from stages.runtime.errors import UserError
from stages.sources.members import UNREADABLE
from stages.sources.names import composed
from stages.sources.tree import RawTree

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_MOST_SHOWN = 80


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
        with tree.open_text(member) as file:
            for number, line in enumerate(file, start=1):
                if text := line.strip():
                    yield f"{member}:{number}", composed(text)
    except UnicodeDecodeError as error:
        raise UserError(f"{member}: expected text in UTF-8: {_encoding(error)}") from None
    except UNREADABLE as error:
        raise UserError(f"{member}: cannot be read: {type(error).__name__}") from None


def quoted(text: str) -> str:
    """A raw text as a message shows it: in quotes, in one line, cut where it is long."""
    shown = repr(text)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"


def _encoding(error: UnicodeDecodeError) -> str:
    if error.start == 0 and error.object[:2] in _UTF16_MARKS:
        return "this is UTF-16, as spreadsheets write it; save it as UTF-8"
    return str(error)
