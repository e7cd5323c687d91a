"""Pictures that look alike: thumbnails -> pairs of high correlation, mirrored ones included.

The search is exact. Unit vectors u, v (a thumbnail without its mean, of length 1) correlate by
u . v. Let p, q be their lowest frequencies (2-D DCT) and r, s the lengths of what is left; then by
Cauchy and Schwarz

    u . v <= p . q + r s

Mirroring a picture changes the sign of its odd horizontal frequencies and nothing else, so with
their absolute values the right side bounds the mirrored pair as well. One product of such short
vectors therefore finds every candidate; those are then counted in whole numbers, so that every
machine finds the same pairs, with any number of threads.
"""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from stages.faces.fingerprint import THUMBNAIL_SIDE
from stages.runtime.errors import UserError
from stages.runtime.machine import num_cores
from stages.runtime.workers import with_progress

Thumbnails = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

# Flatter thumbnails are noise to a correlation; only equal pixels make such pictures copies.
LEAST_CONTRAST = 2.0  # standard deviation, grey levels
MOST_PAIRS = 8_000_000  # their table takes some 3 GiB

_CELLS = THUMBNAIL_SIDE**2
_FREQUENCIES = 51
_SLACK = 1e-4  # well above the rounding of float32 products of 52 numbers
# A block of products and its mask stay in the cache of a core.
_ROWS, _COLUMNS, _CHUNK = 512, 1024, 4096

logger = logging.getLogger(__name__)


class Pairs(NamedTuple):
    """Pairs of positions, `first` < `second`, in that order; (P,) each.

    `correlation` is that of the pair as it stands or, where that is higher, with one picture
    mirrored; `mirrored` says which.
    """

    first: Positions
    second: Positions
    correlation: npt.NDArray[np.float64]
    mirrored: npt.NDArray[np.bool_]

    def only(self, chosen: npt.NDArray[np.bool_] | Positions) -> "Pairs":
        """Take the pairs of a mask or an order (P,)."""
        return Pairs._make(values[chosen] for values in self)

    def edges(self) -> Positions:
        """Return the pairs as edges (P, 2)."""
        return np.stack([self.first, self.second], axis=1)


def similar_pairs(thumbnails: Thumbnails, *, at_least: float) -> Pairs:
    """Find all pairs of grey thumbnails (N, 576) that correlate `at_least`, mirrored or not.

    Thumbnails of less contrast than `LEAST_CONTRAST` are in no pair.

    Raises:
        UserError: if there are more than `MOST_PAIRS`.
    """
    sums = thumbnails.sum(1, dtype=np.int64)
    # n sum(x^2) - sum(x)^2: the variance times n^2, exactly.
    squares = np.einsum("ij,ij->i", thumbnails, thumbnails, dtype=np.int64)
    spreads = _CELLS * squares - sums**2
    clear = np.flatnonzero(spreads >= (LEAST_CONTRAST * _CELLS) ** 2)
    if flat := len(thumbnails) - len(clear):
        logger.info("%d pictures of next to no contrast are compared by their pixels alone", flat)
    pictures, sums = thumbnails[clear], sums[clear].astype(np.float64)
    lengths = np.sqrt(spreads[clear].astype(np.float64))
    short = _short_vectors(pictures)
    columns = np.ascontiguousarray(short.T)

    def correlate(first: Positions, second: Positions) -> Pairs:
        # (n sum(xy) - sum(x) sum(y)) / sqrt(spread(x) spread(y)). All sums stay below 2^53, so
        # float64 holds them exactly, in whatever order they are added.
        left, right = (pictures[end].astype(np.float64) for end in (first, second))
        turned = right.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)[:, :, ::-1].reshape(left.shape)
        straight, mirrored = (
            (_CELLS * np.einsum("ij,ij->i", left, other) - sums[first] * sums[second])
            / (lengths[first] * lengths[second])
            for other in (right, turned)
        )
        best = np.maximum(straight, mirrored)
        kept = best >= at_least
        return Pairs(first[kept], second[kept], best[kept], (mirrored > straight)[kept])

    def search(start: int) -> Pairs:
        near = _candidates(short, columns, start=start, bound=at_least - _SLACK)
        return _join(correlate(first, second) for first, second in near)

    # One BLAS thread for each of ours: blocks are small, and compared where they were made.
    with threadpool_limits(1), ThreadPoolExecutor(num_cores()) as pool:
        parts, num_pairs, starts = [], 0, range(0, len(short), _ROWS)
        # A name for what `map` returns would keep the search going after an error.
        for part in with_progress(
            pool.map(search, starts), name="duplicates", unit="blocks", total=len(starts)
        ):
            parts.append(part)
            num_pairs += len(part.first)
            if num_pairs > MOST_PAIRS:
                raise UserError(
                    f"manifest.duplicates: expected at most {MOST_PAIRS:,} pairs of pictures that "
                    "look alike, found more; is one picture in the data thousands of times?"
                )
    pairs = _join(parts)
    pairs = pairs.only(np.lexsort((pairs.second, pairs.first)))
    return pairs._replace(first=clear[pairs.first], second=clear[pairs.second])


def _short_vectors(pictures: Thumbnails) -> npt.NDArray[np.float32]:
    """Low frequencies, the odd horizontal ones without their sign, and the length of the rest."""
    # The orthonormal DCT-II patterns (576, F) of lowest frequency but the constant one.
    side = THUMBNAIL_SIDE
    place, frequency = np.arange(side), np.arange(side)[:, None]
    waves = np.sqrt(2 / side) * np.cos(np.pi * (2 * place + 1) * frequency / (2 * side))
    waves[0] /= np.sqrt(2)
    chosen = sorted(
        ((down, across) for down in range(side) for across in range(side) if down + across),
        key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair),
    )[:_FREQUENCIES]
    patterns = [np.outer(waves[down], waves[across]).ravel() for down, across in chosen]
    basis, is_odd = np.stack(patterns, axis=1), [across % 2 == 1 for _, across in chosen]
    short = np.empty((len(pictures), _FREQUENCIES + 1), np.float32)
    for start in range(0, len(pictures), _CHUNK):
        unit = pictures[start : start + _CHUNK].astype(np.float64)
        unit -= unit.mean(1, keepdims=True)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        low = unit @ basis
        rest = np.sqrt(np.maximum(0, 1 - (low**2).sum(1, keepdims=True)))
        low[:, is_odd] = np.abs(low[:, is_odd])
        short[start : start + _CHUNK] = np.hstack([low, rest])
    return short


def _candidates(
    short: npt.NDArray[np.float32], columns: npt.NDArray[np.float32], *, start: int, bound: float
) -> Iterable[tuple[Positions, Positions]]:
    """Yield positions (first < second) whose bound allows a pair, for a block of rows."""
    rows = short[start : start + _ROWS]
    for left in range(start, columns.shape[1], _COLUMNS):
        reached = rows @ columns[:, left : left + _COLUMNS] >= np.float32(bound)
        first, second = np.divmod(np.flatnonzero(reached), reached.shape[1])
        first, second = first + start, second + left
        ordered = first < second
        for chunk in range(0, len(first), _CHUNK):
            part = slice(chunk, chunk + _CHUNK)
            yield first[part][ordered[part]], second[part][ordered[part]]


def _join(parts: Iterable[Pairs]) -> Pairs:
    empty = np.empty(0, np.int64)
    joined = [Pairs(empty, empty, np.empty(0), np.empty(0, bool)), *parts]
    return Pairs._make(map(np.concatenate, zip(*joined, strict=True)))
