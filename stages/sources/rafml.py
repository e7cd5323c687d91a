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
_MAX_SHARE = 100.0  # copies may hold percents


class _Part(NamedTuple):
    """A line of partition_label.txt; `split` is None where the line names no split."""

    row: str
    file_name: str
    split: Split | None
    picture: str | None


def read(tree: RawTree, *, name: str, source: RafmlSource) -> Iterator[Candidate | Reject]:
    """Yield every row of shares, then partition rows that belong to none, then unnamed pictures.

    The first partition row of a picture counts as part of its row of shares.
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
        numbers = [value for field in fields if (value := number(field)) is not None]
        picture = pictures.find(file_name)
        if len(numbers) != len(SHARE_COLUMNS) or not min(numbers) >= 0 < max(numbers) <= _MAX_SHARE:
            detail = f"expected a name and six shares from 0 to 100, got {quoted(text)}"
            yield Reject(row, "row_malformed", detail, picture)
        elif not same:
            detail = f"no row of {quoted(file_name)} in {_PARTITION}"
            yield Reject(row, "row_malformed", detail, picture)
        elif contradiction := _contradiction(same):
            yield Reject(row, "label_contradictory", contradiction, same[0].picture)
        elif picture is None:
            yield Reject(row, "image_missing", quoted(pictures.spelt(file_name)))
        else:
            share_of = dict(zip(SHARE_COLUMNS, numbers, strict=True))
            winners = [each for each, share in share_of.items() if share == max(numbers)]
            if len(winners) > 1:
                detail = f"{' and '.join(winners)} have {max(numbers):g} each"
                yield Reject(row, "no_majority", detail, picture)
                continue
            key = f"{name}/{PurePosixPath(file_name).stem}"
            votes = tuple(share_of.get(each, 0.0) for each in CLASSES)
            yield Candidate(row, key, picture, winners[0], same[0].split, photo=key, votes=votes)
    yield from _left_over(parts, parts_of, named=named)
    for member in pictures.unused():
        yield Reject(member, "label_missing", f"no row in {shares}", member)


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
    """Name the first line of each split; None if there is one split."""
    first = {part.split: part.row for part in reversed(parts)}
    if len(first) == 1:
        return None
    return ", ".join(f"{split} in {row}" for split, row in sorted(first.items(), key=str))
