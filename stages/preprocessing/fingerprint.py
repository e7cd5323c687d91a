"""What a picture is known by: a hash of its pixels, and two that survive small changes."""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.preprocessing.decode import Image

HASH_SIDE = 8
THUMBNAIL_SIDE = 24
_CACHED_SIZES = 512


def pixel_sha256(image: Image) -> str:
    """SHA-256 of shape and pixels: equal for pictures that decode alike, however encoded."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def difference_hash(image: Image) -> int:
    """A 64-bit hash of an RGB picture (H, W, 3): which of two neighbouring cells is brighter.

    8 rows of 9 cells, row by row, most significant bit first; a bit is set where a cell is brighter
    than its right neighbour. Every machine gets the same.
    """
    sums = _area_sums(_grey(image), rows=HASH_SIDE, columns=HASH_SIDE + 1)
    return int.from_bytes(np.packbits(sums[:, :-1] > sums[:, 1:]).tobytes(), "big")


def thumbnail(image: Image) -> bytes:
    """24 x 24 grey values of an RGB picture (H, W, 3), uint8, row by row.

    Each is the mean over its part of the picture, rounded half up. Every machine gets the same, and
    a mirrored picture has the mirrored thumbnail.
    """
    sums = _area_sums(_grey(image), rows=THUMBNAIL_SIDE, columns=THUMBNAIL_SIDE)
    area = image.shape[0] * image.shape[1]
    # The half is exact below 2**52, and no quotient is near enough to a whole number to become it.
    means: Image = ((sums + area / 2) / area).astype(np.uint8)
    return means.tobytes()


def _grey(image: Image) -> Image:
    # Fixed-point for 8 bits (ITU-R BT.601): no machine rounds differently.
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _area_sums(grey: Image, *, rows: int, columns: int) -> NDArray[np.float64]:
    """Sums over equal cells (rows, columns) of a picture (H, W), in pixels' `1 / (rows * columns)`.

    A pixel that lies in several cells counts for its share in each. A cell's weights sum to H * W.
    All numbers on the way are whole and below 2**53, where float64 is exact.
    """
    # No matrix product: BLAS would start threads for one picture, in the way of all other workers.
    corner_sums = np.asarray(cv2.integral(grey, sdepth=cv2.CV_64F), np.float64)
    row_sums = _differences(corner_sums, cells=rows)
    return _differences(np.ascontiguousarray(row_sums.T), cells=columns).T


def _differences(sums: NDArray[np.float64], *, cells: int) -> NDArray[np.float64]:
    """Sums from the start (L + 1, N) -> sums over each of `cells` equal parts (cells, N)."""
    edges = _edges(sums.shape[0] - 1, cells)
    at_edges = sums.take(edges.before, axis=0)
    at_edges *= edges.share_before
    after = sums.take(edges.after, axis=0)
    after *= edges.share_after
    at_edges += after
    return np.asarray(at_edges[1:] - at_edges[:-1])


class _Edges(NamedTuple):
    """Where the edges of equal cells lie: between which two pixel edges, and how near to each."""

    before: NDArray[np.int64]
    after: NDArray[np.int64]
    share_before: NDArray[np.float64]
    share_after: NDArray[np.float64]


@lru_cache(maxsize=_CACHED_SIZES)
def _edges(length: int, cells: int) -> _Edges:
    before, rest = np.divmod(np.arange(cells + 1) * length, cells)
    after = np.minimum(before + 1, length)
    share_after = rest[:, None].astype(np.float64)
    return _Edges(before, after, share_before=cells - share_after, share_after=share_after)
