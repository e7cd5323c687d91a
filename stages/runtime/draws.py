"""A few of many, for a contact sheet."""

from collections import Counter, defaultdict
from typing import Generic, TypeVar

T = TypeVar("T")


class FairDraw(Generic[T]):
    """Of each title the items with the smallest keys: for hashes a fair draw that never changes."""

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
        """The items that were drawn for a title, by key."""
        items = self._drawn.get(title, {})
        return [items[key] for key in sorted(items)]
