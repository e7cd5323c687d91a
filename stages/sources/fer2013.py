"""FER2013: the csv of pixels, or `{train,test}/<class>/*.jpg`."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from stages.config import Fer2013Source, Folder7Source
from stages.runtime.errors import UserError
from stages.sources import folder7
from stages.sources.columns import ColumnRow, column_rows
from stages.sources.face import Candidate, Reject
from stages.sources.fer_csv import TABLES, USAGES, as_png, find_pixels, row_name
from stages.sources.labels import FER2013_CODES, split_of
from stages.sources.numbers import code
from stages.sources.tables import quoted
from stages.sources.tree import PICTURE_SUFFIXES, RawTree

_FORMS = f"{' (or '.join(TABLES)}), or {{train,test}}/<class>/<picture>"


def read(tree: RawTree, *, name: str, source: Fer2013Source) -> Iterator[Candidate | Reject]:
    """Yield every row of the csv, or, where there is none, every file of the class folders.

    Raises:
        UserError: if there is neither, or both: they hold the same pictures.
    """
    table = find_pixels(tree)
    folders = next((member for member in tree.members if _is_in_split_folder(member)), None)
    if table and folders:
        raise UserError(f"source {name}: expected either {_FORMS}; found {table} and {folders}")
    if table:
        yield from _read_table(tree, table, name=name)
    elif folders:
        # Folders are named by class; their numbers, where copies have them, differ.
        named = Folder7Source(format="folder7", path=source.path)
        yield from folder7.read(tree, name=name, source=named)
    else:
        raise UserError(f"source {name}: expected {_FORMS}; found {list(tree.members[:5])}")


def _is_in_split_folder(member: str) -> bool:
    path = PurePosixPath(member)
    return path.suffix.lower() in PICTURE_SUFFIXES and any(map(split_of, path.parts[:-1]))


def _read_table(tree: RawTree, table: str, *, name: str) -> Iterator[Candidate | Reject]:
    rows = column_rows(tree, table, ("emotion", "usage", "pixels"))
    for number, row in enumerate(rows):
        yield _from_row(row, key=f"{name}/{row_name(number)}")


def _from_row(row: ColumnRow, *, key: str) -> Candidate | Reject:
    emotion, usage, pixels = row.fields
    if row.problem:
        return Reject(row.row, "row_malformed", row.problem)
    if usage not in USAGES:
        return Reject(
            row.row, "row_malformed", f"expected a Usage of {list(USAGES)}, got {quoted(usage)}"
        )
    label = FER2013_CODES.get(code(emotion))
    if label is None:
        return Reject(row.row, "label_invalid", f"expected 0 to 6, got {quoted(emotion)}")
    image = as_png(pixels)
    if image is None:
        return Reject(row.row, "image_unreadable", "expected 48 x 48 grey values")
    return Candidate(row.row, key, row.row, label, USAGES[usage], photo=key, image=image)
