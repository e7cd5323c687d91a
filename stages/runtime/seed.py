"""Random choices as a function of names: no state to save, the same on every machine."""

import hashlib
from collections import Counter, defaultdict
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


def derive_seed(seed: int, *names: int | str) -> int:
    """Return a 63-bit seed for one purpose: `derive_seed(7, "augmentation", epoch, position)`."""
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: int | str) -> np.random.Generator:
    """Return a numpy generator of its own for one purpose."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))


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
