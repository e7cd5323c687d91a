"""FERPlus: ten crowd votes a picture, as generated folders or as the csv pair.

Votes become a label by the rules of Barsoum et al. 2016 (arXiv:1608.01041).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from posixpath import basename, splitext
from typing import Literal

from stages.config import CLASSES, FerplusSource
from stages.runtime.errors import UserError
from stages.sources.fer2013 import PIXEL_TABLES, SIDE_PX, USAGES, as_png, row_name
from stages.sources.pictures import PictureIndex
from stages.sources.rows import Candidate, Reject, Split, canonical
from stages.sources.tables import column_rows, csv_rows, is_gap, quoted, whole
from stages.sources.tree import RawTree

LabelRule = Literal["majority", "probability", "multi_target"]

_EMOTIONS = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
VOTE_COLUMNS = (*_EMOTIONS, "unknown", "NF")
_CLASS_COLUMNS = tuple(list(map(canonical, VOTE_COLUMNS)).index(name) for name in CLASSES)
_MAX_PEAKS = 3
_FOLDERS: dict[str, Split] = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
_WHOLE = (0, 0, SIDE_PX, SIDE_PX)
# Rows of Microsoft's fer2013new.csv, counted from 0, that bear the name of another row.
_MISNAMED = {
    5274: "fer0006953.png",
    5348: "fer0011785.png",
    15835: "fer0008403.png",
    34334: "fer0033120.png",
}


def read(tree: RawTree, *, name: str, source: FerplusSource) -> Iterator[Candidate | Reject]:
    """Yield every row of the generated folders if one has pictures, else of the csv pair.

    FERPlus itself comes with a label.csv in each folder and no pictures: where there is no csv pair
    either, these are the rows.
    """
    votes, pixels = tree.find("fer2013new.csv"), tree.find(*PIXEL_TABLES)
    if votes and pixels and not any(map(tree.pictures_below, _FOLDERS)):
        yield from _read_pair(tree, pixels, votes, name=name, rule=source.label_rule)
        return
    listed = [each for each in _FOLDERS if tree.find(f"{each}/label.csv")]
    folders = [each for each in _FOLDERS if each in listed or tree.pictures_below(each)]
    if not folders:
        expected = f"expected the folders {', '.join(_FOLDERS)} with pictures and label.csv, "
        pair = f"or {' (or '.join(PIXEL_TABLES)}) with fer2013new.csv"
        raise tree.layout_error(name, expected + pair)
    for folder in folders:
        yield from _read_folder(tree, folder, name=name, rule=source.label_rule)


def winner(counts: Sequence[int], *, rule: LabelRule) -> str | None:
    """Find the column that a row's ten votes stand for; a tie goes to the first.

    Counts of 1 or less are noise and become 0. The rule keeps some columns; unless they hold more
    than half of the remaining votes the row has no winner.
    """
    votes = [count if count > 1 else 0 for count in counts]
    match rule:
        case "majority":
            first = votes.index(max(votes))
            kept = [count if column == first else 0 for column, count in enumerate(votes)]
        case "probability":
            kept = _peaks(votes)
        case "multi_target":
            kept = [count if 10 * count >= 3 * sum(votes) else 0 for count in votes]
    if 2 * sum(kept) <= sum(votes):
        return None
    return VOTE_COLUMNS[kept.index(max(kept))]


def _peaks(votes: list[int]) -> list[int]:
    """Keep peaks in falling order until 75 % of the votes or three; a tie beyond three voids all.

    Unknown or NF ends the search, and is kept itself only where nothing stands before it.
    """
    kept = [0] * len(votes)
    for peak in sorted(set(votes) - {0}, reverse=True):
        if 4 * sum(kept) >= 3 * sum(votes) or len(votes) - kept.count(0) >= _MAX_PEAKS:
            break
        tied = [column for column, count in enumerate(votes) if count == peak]
        for column in tied:
            if column < len(_EMOTIONS) or not any(kept):
                kept[column] = peak
            if column >= len(_EMOTIONS):
                break
        if tied[-1] >= len(_EMOTIONS):
            break
    return kept if len(votes) - kept.count(0) <= _MAX_PEAKS else [0] * len(votes)


def _read_folder(
    tree: RawTree, folder: str, *, name: str, rule: LabelRule
) -> Iterator[Candidate | Reject]:
    table = tree.find(f"{folder}/label.csv")
    if table is None:
        raise UserError(f"source {name}: no {folder}/label.csv beside its pictures")
    pictures = PictureIndex(tree.pictures_below(folder))
    for row, fields in csv_rows(tree, table):
        picture = pictures.find(fields[0])
        if len(fields) != 2 + len(VOTE_COLUMNS):
            detail = f"expected {2 + len(VOTE_COLUMNS)} columns, got {len(fields)}"
            yield Reject(row, "row_malformed", detail, picture)
        elif tuple(map(whole, fields[1].strip("()").split(","))) != _WHOLE:
            # Another box would be the box of another picture: these are cropped already.
            detail = f"expected the box {_WHOLE}, got {quoted(fields[1])}"
            yield Reject(row, "row_malformed", detail, picture)
        elif picture is None:
            yield Reject(row, "image_missing", f"{folder}/{fields[0]}")
        else:
            key = f"{name}/{splitext(basename(picture))[0]}"
            face = Candidate(row, key, picture, "", _FOLDERS[folder], photo=key)
            yield _decided(face, fields[2:], rule=rule)
    for picture in pictures.unused():
        yield Reject(picture, "label_missing", f"no row in {table}", picture)


def _read_pair(
    tree: RawTree, pixels: str, votes: str, *, name: str, rule: LabelRule
) -> Iterator[Candidate | Reject]:
    """Yield the rows of both tables; the n-th of both are one picture, called by n.

    FERPlus' names do not count rows. 173 rows of Microsoft's table have no name (nobody saw a
    face): their votes decide. A name that stands twice says that rows were copied or tables joined,
    and not which of the two it means.
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
        face = Candidate(vote.row, key, member, "", USAGES[usage], photo=key, image=image)
        yield _decided(face, counts, rule=rule)


def _decided(face: Candidate, texts: Sequence[str], *, rule: LabelRule) -> Candidate | Reject:
    """Give a face the label of its votes. `rule` is for train; val and test go by majority."""
    counts = [count for text in texts if (count := whole(text)) is not None and count >= 0]
    if len(counts) != len(texts):
        detail = f"expected ten whole numbers, got {tuple(texts)}"
        return Reject(face.row, "row_malformed", detail, face.picture)
    column = winner(counts, rule=rule if face.split == "train" else "majority")
    if column is None:
        votes = zip(VOTE_COLUMNS, counts, strict=True)
        detail = ", ".join(f"{name} {count}" for name, count in votes if count)
        return Reject(face.row, "no_majority", detail, face.picture)
    label = canonical(column)
    if label is None:
        return Reject(face.row, "not_a_class", column, face.picture)
    class_votes = tuple(float(counts[place]) for place in _CLASS_COLUMNS)
    return replace(face, label=label, votes=class_votes)
