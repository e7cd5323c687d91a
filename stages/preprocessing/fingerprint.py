"""What a picture is known by: a hash of its pixels, and one that survives small changes."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from stages.preprocessing.decode import Image

HASH_SIDE = 8
_LUMA = np.array([77, 150, 29])  # ITU-R BT.601, times 256


def pixel_sha256(image: Image) -> str:
    """SHA-256 of shape and pixels: equal for pictures that decode alike, however encoded."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def difference_hash(image: Image) -> int:
    """A 64-bit hash of an RGB picture (H, W, 3): which of two neighbouring cells is brighter.

    8 rows of 9 cells, row by row, most significant bit first; a bit is set where a cell is brighter
    than its right neighbour. In whole numbers, so every machine gets the same.
    """
    rows, row_counts = _cells(image.shape[0], HASH_SIDE)
    columns, column_counts = _cells(image.shape[1], HASH_SIDE + 1)
    strips = np.add.reduceat(image, rows, axis=0, dtype=np.int64)
    sums = np.add.reduceat(strips, columns, axis=1) @ _LUMA
    counts = row_counts[:, None] * column_counts[None, :]
    # Means are compared by cross-multiplication.
    brighter = sums[:, :-1] * counts[:, 1:] > sums[:, 1:] * counts[:, :-1]
    return int.from_bytes(np.packbits(brighter).tobytes(), "big")


def _cells(length: int, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of `number` cells; a picture shorter than that repeats pixels."""
    edges = np.arange(number + 1) * length // number
    return edges[:-1], np.maximum(np.diff(edges), 1)
