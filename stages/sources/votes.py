"""FERPlus crowd votes -> a label, by the rules of Barsoum et al. 2016 (arXiv:1608.01041).

In: ten counts in the order of `VOTE_COLUMNS`. Out: the name of the column that wins, or None.
"""

from collections.abc import Sequence
from typing import Literal

from stages.config import CLASSES
from stages.sources.labels import canonical

LabelRule = Literal["majority", "probability", "multi_target"]

VOTE_COLUMNS = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
    "unknown", "NF",
)  # fmt: skip
_CLASS_COLUMNS = tuple(list(map(canonical, VOTE_COLUMNS)).index(name) for name in CLASSES)
_NUM_EMOTIONS = 8
_MOST_PEAKS = 3


def winner(counts: Sequence[int], *, rule: LabelRule) -> str | None:
    """The column that a row's votes stand for; a tie goes to the first.

    Counts of 1 or less are noise and become 0. The rule keeps some columns; unless they hold more
    than half of the remaining votes the row has no winner.
    """
    votes = [count if count > 1 else 0 for count in counts]
    kept = {"majority": _peak, "probability": _peaks, "multi_target": _large}[rule](votes)
    if 2 * sum(kept) <= sum(votes):
        return None
    return VOTE_COLUMNS[kept.index(max(kept))]


def class_votes(counts: Sequence[int]) -> tuple[float, ...]:
    """The raw counts of the seven classes, in canonical order; the other three are left out."""
    return tuple(float(counts[column]) for column in _CLASS_COLUMNS)


def _peak(votes: list[int]) -> list[int]:
    """Keep the largest count."""
    first = votes.index(max(votes))
    return [count if column == first else 0 for column, count in enumerate(votes)]


def _peaks(votes: list[int]) -> list[int]:
    """Keep peaks in falling order until 75 % of the votes or three; more, by a tie, are none."""
    kept = [0] * len(votes)
    for peak in sorted(set(votes) - {0}, reverse=True):
        if 4 * sum(kept) >= 3 * sum(votes) or _num_kept(kept) >= _MOST_PEAKS:
            break
        if not _keep_ties(kept, votes, peak=peak):
            break
    return kept if _num_kept(kept) <= _MOST_PEAKS else [0] * len(votes)


def _keep_ties(kept: list[int], votes: list[int], *, peak: int) -> bool:
    """Keep all columns with `peak` votes; False, and no more, at unknown or NF.

    Unknown or NF is kept itself only where nothing stands before it.
    """
    for column in (column for column, count in enumerate(votes) if count == peak):
        if column >= _NUM_EMOTIONS and any(kept):
            return False
        kept[column] = peak
        if column >= _NUM_EMOTIONS:
            return False
    return True


def _large(votes: list[int]) -> list[int]:
    """Keep all with 30 % of the votes or more."""
    return [count if 10 * count >= 3 * sum(votes) else 0 for count in votes]


def _num_kept(kept: list[int]) -> int:
    return sum(count > 0 for count in kept)
