"""Tables and sheets for people: CSV files, text no spreadsheet runs, and a fair choice of rows.

The bytes of a table depend on its rows alone.
"""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from stages.runtime.files import write_bytes

T = TypeVar("T")

# Beginnings that make a spreadsheet take a cell for a formula, some only in their wide form.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def inert(text: str) -> str:
    """Return a stranger's text with an apostrophe in front if a spreadsheet would run it.

    Not for keys: an id begins with the name of its source, which is inert.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_csv(path: Path, frame: pd.DataFrame) -> str:
    r"""Write a frame without its index atomically and return the SHA-256 of the file.

    UTF-8, `\n` line ends on every system, missing values empty, numbers in the shortest form that
    reads back as the same number.
    """
    data = frame.to_csv(index=False, lineterminator="\n").encode("utf-8")
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


class FairDraw(Generic[T]):
    """The items with the smallest keys of each title: a stable random sample if keys are hashes."""

    def __init__(self, per_title: int) -> None:
        self._per_title = per_title
        self._drawn: defaultdict[str, dict[str, T]] = defaultdict(dict)
        self.counts: Counter[str] = Counter()

    def add(self, title: str, *, key: str, item: T) -> None:
        """Count an item and keep it if it is among the drawn; of equal keys the last stays."""
        self.counts[title] += 1
        drawn = self._drawn[title]
        drawn[key] = item
        if len(drawn) > self._per_title:
            del drawn[max(drawn)]

    def drawn(self, title: str) -> list[T]:
        """Return the items that were drawn for a title, by key."""
        items = self._drawn.get(title, {})
        return [items[key] for key in sorted(items)]
