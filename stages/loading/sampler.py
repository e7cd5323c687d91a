"""Which rows an epoch draws, in which order. In: the rows' targets. Out: batches of draws."""

from collections.abc import Iterator
from itertools import accumulate, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from stages.computing.team import ALONE, Team
from stages.config import CLASSES
from stages.runtime.errors import UserError
from stages.runtime.seed import generator

Rows = npt.NDArray[np.int64]


class Draw(NamedTuple):
    """One face of an epoch. (epoch, position) names its random numbers, `row` its picture."""

    epoch: int
    position: int
    row: int


class EpochSampler:
    """The order of every epoch, a pure function of (seed, epoch).

    - Every row is drawn at least once in an epoch; every epoch has another order.
    - Every batch holds at least `min_per_class` rows of each class. Only the rows of classes that
      are too rare for that are repeated, evenly: within a class, counts differ by at most one.
    - The epoch has the fewest batches that allow this. Their sizes differ by at most one and never
      exceed `batch_size`: there is no short tail.
    - With `min_per_class` 0 an epoch is a permutation of the rows.
    """

    def __init__(
        self, targets: Rows, *, batch_size: int, min_per_class: int = 0, seed: int
    ) -> None:
        """Plan the epochs of rows 0 .. len(targets) - 1.

        Raises:
            UserError: if there are no rows, a class to be filled has none, or the batch is too
                small for `min_per_class` of each class.
        """
        self.seed = seed
        self.min_per_class = min_per_class
        self._rows_of_class = [np.flatnonzero(targets == c) for c in range(len(CLASSES))]
        counts = np.array([len(rows) for rows in self._rows_of_class])
        if not counts.any():
            raise UserError("training rows: expected at least one, got none")
        absent = [name for name, n in zip(CLASSES, counts, strict=True) if n == 0]
        if min_per_class > 0 and absent:
            raise UserError(
                f"training rows: min_per_class needs rows of every class, none of {absent}"
            )
        if batch_size < (needed := len(CLASSES) * min_per_class):
            raise UserError(
                f"batch_size: expected at least {needed} for {min_per_class} of each of "
                f"{len(CLASSES)} classes, got {batch_size}"
            )
        # The fewest batches that hold all their own draws: more batches need more repeats.
        self.num_batches, self.effective_counts = 0, counts
        while (num_draws := int(self.effective_counts.sum())) > self.num_batches * batch_size:
            self.num_batches = -(-num_draws // batch_size)
            self.effective_counts = np.maximum(counts, self.num_batches * min_per_class)
        size, larger = divmod(num_draws, self.num_batches)
        self.sizes = [size + 1] * larger + [size] * (self.num_batches - larger)

    def batches(self, epoch: int) -> list[Rows]:
        """The row numbers of each batch of an epoch."""
        rng = generator(self.seed, "order", epoch)
        reserved = self.num_batches * self.min_per_class
        streams = [
            _cycled(rows, int(n), rng)
            for rows, n in zip(self._rows_of_class, self.effective_counts, strict=True)
        ]
        kept_free = rng.permutation(np.concatenate([stream[reserved:] for stream in streams]))
        rows = np.concatenate([*(stream[:reserved] for stream in streams), kept_free])
        # The reserved draws come class by class, then the free ones.
        order = np.arange(self.num_batches)
        free = np.array(self.sizes) - len(CLASSES) * self.min_per_class
        batch_of_reserved = np.tile(np.repeat(order, self.min_per_class), len(CLASSES))
        batch_of_draw = np.concatenate([batch_of_reserved, np.repeat(order, free)])
        shuffled_within = np.lexsort((rng.random(len(rows)), batch_of_draw))
        return np.split(rows[shuffled_within], np.cumsum(self.sizes)[:-1])

    def share_seen(self, epoch: int) -> float:
        """Which share of all rows an epoch draws at least once."""
        drawn = np.unique(np.concatenate(self.batches(epoch)))
        return len(drawn) / sum(map(len, self._rows_of_class))


class BatchOrder(Sampler[list[Draw]]):
    """The batches of one epoch at a time, from `start_batch` on; skipped batches cost nothing.

    Of each batch a process of a team takes every `size`-th draw, so a batch is the same faces for
    any number of processes. It lives in the main process: each draw carries its epoch, so workers
    can outlive the epoch.
    """

    def __init__(self, sampler: EpochSampler, *, team: Team = ALONE) -> None:
        self.sampler = sampler
        self.team = team
        self.largest = -(-max(sampler.sizes) // team.size)
        self.epoch = 0
        self.start_batch = 0

    def __len__(self) -> int:
        return self.sampler.num_batches - self.start_batch

    def __iter__(self) -> Iterator[list[Draw]]:
        # Taken now: an iterator keeps the epoch that it was made for.
        epoch, rank, size = self.epoch, self.team.rank, self.team.size
        firsts = accumulate([0, *self.sampler.sizes[:-1]])
        numbered = zip(firsts, self.sampler.batches(epoch), strict=True)
        return (
            [Draw(epoch, first + i, row) for i, row in enumerate(rows.tolist())][rank::size]
            for first, rows in islice(numbered, self.start_batch, None)
        )


class RowOrder(Sampler[list[Draw]]):
    """Every row once, in order, for evaluation; a process of a team takes every `size`-th batch."""

    def __init__(self, num_rows: int, *, batch_size: int, team: Team = ALONE) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.team = team
        self.largest = min(batch_size, num_rows)

    def __len__(self) -> int:
        return -(-len(self.rows_of(self.team.rank)) // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        rows = self.rows_of(self.team.rank)
        for start in range(0, len(rows), self.batch_size):
            yield [Draw(0, row, row) for row in rows[start : start + self.batch_size].tolist()]

    def rows_of(self, rank: int) -> Rows:
        """The row numbers that a process of the team takes, in its order."""
        return np.flatnonzero(np.arange(self.num_rows) // self.batch_size % self.team.size == rank)


def _cycled(rows: Rows, num_draws: int, rng: np.random.Generator) -> Rows:
    """`num_draws` of `rows`: one permutation after the other, the last one cut short."""
    if len(rows) == 0:
        return rows
    rounds = [rng.permutation(rows) for _ in range(-(-num_draws // len(rows)))]
    return np.concatenate(rounds)[:num_draws]
