"""Text tables of raw datasets, row by row, each with its name for rejects.csv."""

import csv
from collections.abc import Iterator

from stages.runtime.errors import UserError
from stages.sources.tree import RawTree


def csv_rows(tree: RawTree, member: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (`<member>:<line>`, stripped fields) for each row that is not blank.

    Raises:
        UserError: if the file is no UTF-8 or no CSV.
    """
    try:
        with tree.open_text(member) as file:
            reader = csv.reader(file)
            for fields in reader:
                if any(field.strip() for field in fields):
                    yield f"{member}:{reader.line_num}", [field.strip() for field in fields]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{member}: expected a CSV table in UTF-8: {error}") from None


def text_rows(tree: RawTree, member: str) -> Iterator[tuple[str, str]]:
    """Yield (`<member>:<line>`, stripped text) for each line that is not blank.

    Raises:
        UserError: if the file is not UTF-8.
    """
    try:
        with tree.open_text(member) as file:
            for number, line in enumerate(file.read().splitlines(), start=1):
                if text := line.strip():
                    yield f"{member}:{number}", text
    except UnicodeDecodeError as error:
        raise UserError(f"{member}: expected text in UTF-8: {error}") from None
