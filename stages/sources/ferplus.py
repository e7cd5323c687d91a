"""FERPlus: ten crowd votes a picture, as generated folders or as the csv pair."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from posixpath import basename, splitext

from stages.config import FerplusSource
from stages.runtime.errors import UserError
from stages.sources.columns import column_rows
from stages.sources.face import Candidate, Reject
from stages.sources.fer_csv import SIDE_PX, USAGES, as_png, find_pixels, row_name
from stages.sources.labels import Split, canonical
from stages.sources.numbers import is_gap, whole
from stages.sources.tables import csv_rows, quoted
from stages.sources.tree import RawTree
from stages.sources.votes import VOTE_COLUMNS, class_votes, winner

_FOLDERS: dict[str, Split] = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
_WHOLE = (0, 0, SIDE_PX, SIDE_PX)
# Rows of Microsoft's fer2013new.csv, counted from 0, that bear the name of another one.
_MISNAMED = {
    5274: "fer0006953.png",
    5348: "fer0011785.png",
    15835: "fer0008403.png",
    34334: "fer0033120.png",
}
_FORMS = (
    f"expected the folders {', '.join(_FOLDERS)} with pictures and label.csv, "
    "or fer2013.csv (or icml_face_data.csv) with fer2013new.csv"
)


@dataclass(frozen=True)
class _Row:
    """A row of votes and its picture; `name` says where it stands."""

    name: str
    id: str
    member: str
    split: Split
    counts: tuple[str, ...]
    image: bytes | None = None


def read(tree: RawTree, *, name: str, source: FerplusSource) -> Iterator[Candidate | Reject]:
    """Yield every row of the generated folders if one has pictures, else of the csv pair.

    FERPlus itself comes with a label.csv in each folder and no pictures: where there is no csv pair
    either, these are the rows.

    Raises:
        UserError: if there is neither form.
    """
    votes = tree.find("fer2013new.csv")
    pixels = find_pixels(tree)
    with_pictures = [folder for folder in _FOLDERS if len(tree.pictures_below(folder))]
    listed = [folder for folder in _FOLDERS if tree.find(f"{folder}/label.csv")]
    if votes and pixels and not with_pictures:
        yield from _read_pair(tree, pixels, votes, name=name, source=source)
        return
    if not with_pictures and not listed:
        raise UserError(f"source {name}: {_FORMS}; found {list(tree.members[:5])}")
    for folder in _FOLDERS:
        if folder in with_pictures or folder in listed:
            yield from _read_folder(tree, folder, name=name, source=source)


def _read_folder(
    tree: RawTree, folder: str, *, name: str, source: FerplusSource
) -> Iterator[Candidate | Reject]:
    table = tree.find(f"{folder}/label.csv")
    if table is None:
        raise UserError(f"source {name}: no {folder}/label.csv beside its pictures")
    pictures = tree.pictures_below(folder)
    for row, fields in csv_rows(tree, table):
        picture = pictures.find(fields[0])
        if len(fields) != 2 + len(VOTE_COLUMNS):
            detail = f"expected {2 + len(VOTE_COLUMNS)} columns, got {len(fields)}"
            yield Reject(row, "row_malformed", detail, picture)
        elif tuple(map(whole, fields[1].strip("()").split(","))) != _WHOLE:
            # Another box would be one of another picture: these are cropped already.
            detail = f"expected the box {_WHOLE}, got {quoted(fields[1])}"
            yield Reject(row, "row_malformed", detail, picture)
        elif picture is None:
            yield Reject(row, "image_missing", f"{folder}/{fields[0]}")
        else:
            key = f"{name}/{splitext(basename(picture))[0]}"
            face = _Row(row, key, picture, _FOLDERS[folder], tuple(fields[2:]))
            yield _candidate(face, source=source)
    for picture in pictures.unused():
        yield Reject(picture, "label_missing", f"no row in {table}", picture)


def _read_pair(
    tree: RawTree, pixels: str, votes: str, *, name: str, source: FerplusSource
) -> Iterator[Candidate | Reject]:
    """The n-th row of both tables is one picture, called by n: FERPlus' names do not count rows.

    173 rows of Microsoft's table have no name (nobody saw a face): their votes decide. A name that
    stands twice says that rows were copied or tables joined, and not which of the two it means.
    """
    first_named: dict[str, str] = {}
    pixel_rows = column_rows(tree, pixels, ("usage", "pixels"))
    vote_rows = column_rows(tree, votes, ("usage", "image name", *VOTE_COLUMNS))
    for number, (pixel, vote) in enumerate(zip_longest(pixel_rows, vote_rows)):
        if pixel is None or vote is None:
            raise UserError(f"{pixels}, {votes}: expected as many rows, one ends after {number}")
        for row in (pixel, vote):
            if row.problem:
                raise UserError(f"{row.row}: {row.problem}")
        usage, text = pixel.fields
        same, image_name, *counts = vote.fields
        if usage != same or usage not in USAGES:
            raise UserError(
                f"{vote.row}: expected one Usage of {list(USAGES)} in both tables, "
                f"got {same!r} and, in {pixel.row}, {usage!r}"
            )
        if is_gap(image_name):
            image_name = ""
        if image_name and _MISNAMED.get(number) != image_name:
            first = first_named.setdefault(image_name.lower(), vote.row)
            if first != vote.row:
                yield Reject(vote.row, "row_repeated", f"{quoted(image_name)} stands in {first}")
                continue
        image = as_png(text)
        if image is None:
            yield Reject(pixel.row, "image_unreadable", "expected 48 x 48 grey values")
            continue
        member = f"{pixel.row} ({image_name})" if image_name else pixel.row
        key = f"{name}/{row_name(number)}"
        face = _Row(vote.row, key, member, USAGES[usage], tuple(counts), image)
        yield _candidate(face, source=source)


def _candidate(row: _Row, *, source: FerplusSource) -> Candidate | Reject:
    """Decide by the votes. `label_rule` is for train; val and test always go by majority."""
    picture = None if row.image else row.member
    counts = [count for text in row.counts if (count := whole(text)) is not None and count >= 0]
    if len(counts) != len(row.counts):
        detail = f"expected ten whole numbers, got {row.counts}"
        return Reject(row.name, "row_malformed", detail, picture)
    column = winner(counts, rule=source.label_rule if row.split == "train" else "majority")
    if column is None:
        return Reject(row.name, "no_majority", _in_words(counts), picture)
    label = canonical(column)
    if label is None:
        return Reject(row.name, "not_a_class", column, picture)
    votes = class_votes(counts)
    return Candidate(
        row.name, row.id, row.member, label, row.split, photo=row.id, votes=votes, image=row.image
    )


def _in_words(counts: list[int]) -> str:
    votes = zip(VOTE_COLUMNS, counts, strict=True)
    return ", ".join(f"{name} {count}" for name, count in votes if count)
