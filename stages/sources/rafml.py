"""RAF-ML: the shares of six emotions a picture; the largest is its label, all are its votes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from stages.config import CLASSES, RafmlSource
from stages.sources.rafdb import RafPictures
from stages.sources.rows import Candidate, Reject, Split
from stages.sources.tables import code, number, quoted, text_rows
from stages.sources.tree import RawTree

SHARE_COLUMNS = ("Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry")
_SHARES, _PARTITION = "distribution.txt", "partition_label.txt"
_SPLITS: dict[str, Split] = {"0": "train", "1": "test"}
# Copies may hold percents.
_LARGEST_SHARE = 100.0


class _Part(NamedTuple):
    """A line of partition_label.txt; `split` is None where the line names no split."""

    row: str
    file_name: str
    split: Split | None
    picture: str | None


def read(tree: RawTree, *, name: str, source: RafmlSource) -> Iterator[Candidate | Reject]:
    """Yield every row of shares, then partition rows that belong to none, then unnamed pictures.

    The first partition row of a picture counts as part of its row of shares.

    Raises:
        UserError: if a list is missing, or there are no pictures.
    """
    assert source.format == "rafml_argmax"
    shares, partition = tree.find(_SHARES), tree.find(_PARTITION)
    if shares is None or partition is None:
        raise tree.layout_error(name, f"expected {_SHARES} and {_PARTITION}")
    pictures = RafPictures(tree, name=name)
    parts: list[_Part] = []
    # The understood lines of each picture, letter case aside.
    parts_of: defaultdict[str, list[_Part]] = defaultdict(list)
    for row, text in text_rows(tree, partition):
        file_name, *fields = text.rsplit(None, 1)
        split = _SPLITS.get(code(fields[0])) if fields else None
        parts.append(_Part(row, file_name, split, pictures.find(file_name)))
        if split is not None:
            parts_of[file_name.lower()].append(parts[-1])
    named: set[str] = set()
    for row, text in text_rows(tree, shares):
        file_name, *fields = text.rsplit(None, len(SHARE_COLUMNS))
        named.add(file_name.lower())
        same = parts_of[file_name.lower()]
        numbers = _numbers(fields)
        picture = pictures.find(file_name)
        if numbers is None:
            detail = f"expected a name and six shares from 0 to 100, got {quoted(text)}"
            yield Reject(row, "row_malformed", detail, picture)
        elif not same:
            detail = f"no row of {quoted(file_name)} in {_PARTITION}"
            yield Reject(row, "row_malformed", detail)
        elif contradiction := _contradiction(same):
            yield Reject(row, "label_contradictory", contradiction, same[0].picture)
        elif picture is None:
            yield Reject(row, "image_missing", quoted(pictures.spelt(file_name)))
        else:
            key = f"{name}/{PurePosixPath(file_name).stem}"
            yield _from_shares(row, numbers, split=same[0].split, key=key, picture=picture)
    yield from _left_over(parts, parts_of, named=named)
    for member in pictures.unused():
        yield Reject(member, "label_missing", f"no row in {shares}", member)


def _numbers(fields: Sequence[str]) -> tuple[float, ...] | None:
    """Read six shares that are no less than 0 and not all 0; None if they are anything else."""
    shares = tuple(share for field in fields if (share := number(field)) is not None)
    if not len(fields) == len(shares) == len(SHARE_COLUMNS):
        return None
    return shares if min(shares) >= 0 < max(shares) <= _LARGEST_SHARE else None


def _from_shares(
    row: str, shares: tuple[float, ...], *, split: Split | None, key: str, picture: str
) -> Candidate | Reject:
    share_of = dict(zip(SHARE_COLUMNS, shares, strict=True))
    winners = [column for column, share in share_of.items() if share == max(shares)]
    if len(winners) > 1:
        detail = f"{' and '.join(winners)} have {max(shares):g} each"
        return Reject(row, "no_majority", detail, picture)
    votes = tuple(share_of.get(label, 0.0) for label in CLASSES)
    return Candidate(row, key, picture, winners[0], split, photo=key, votes=votes)


def _left_over(
    parts: Iterable[_Part], parts_of: defaultdict[str, list[_Part]], *, named: set[str]
) -> Iterator[Reject]:
    """Yield partition rows that are no part of a row of shares."""
    for part in parts:
        file_name = part.file_name.lower()
        same = parts_of[file_name]
        if part.split is None:
            yield Reject(part.row, "row_malformed", "expected a name and 0 or 1", part.picture)
        elif file_name not in named:
            detail = f"{quoted(part.file_name)} has no row in {_SHARES}"
            yield Reject(part.row, "label_missing", detail, part.picture)
        elif part is same[0]:
            continue
        elif contradiction := _contradiction(same):
            yield Reject(part.row, "label_contradictory", contradiction, part.picture)
        else:
            detail = f"{quoted(part.file_name)} stands in {same[0].row}"
            yield Reject(part.row, "row_repeated", detail, part.picture)


def _contradiction(parts: Sequence[_Part]) -> str | None:
    """Name the first line of each split for a picture that has two; None if it has one split."""
    first = {part.split: part.row for part in reversed(parts)}
    if len(first) == 1:
        return None
    return ", ".join(f"{split} in {row}" for split, row in sorted(first.items(), key=str))
