"""What a picture is known by: a hash of its pixels, and two that survive small changes."""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.faces.decode import Image

HASH_SIDE = 8
THUMBNAIL_SIDE = 24
# The hash compares each cell with the next one, so a row has a cell more than bits.
_HASH_GRID = (HASH_SIDE, HASH_SIDE + 1)
_THUMBNAIL_GRID = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
# Faces of photos have any side; the places of one shape take 46 kB.
_CACHED_SHAPES = 256
# So many pixels of 255 overflow no int32.
_MOST_INT32_PIXELS = 2**31 // 255


class Fingerprint(NamedTuple):
    """What a picture is known by; every machine gets the same.

    `sha256` is that of shape and pixels: equal for pictures that decode alike, however encoded.

    `dhash` says of 8 rows of 9 cells which of two neighbours is brighter: 64 bits, row by row, most
    significant first, set where a cell is brighter than its right neighbour.

    `thumbnail` is 24 x 24 grey values, uint8, row by row. Each is the mean over its part of the
    picture, rounded half up; a mirrored picture has the mirrored thumbnail.
    """

    sha256: str
    dhash: int
    thumbnail: bytes


def fingerprint(image: Image) -> Fingerprint:
    """Fingerprint an RGB picture (H, W, 3)."""
    height, width = image.shape[:2]
    hash_sums, thumbnail_sums = _area_sums(_grey(image))
    is_brighter = hash_sums[:, :-1] > hash_sums[:, 1:]
    area = height * width
    # The half is exact below 2**52, and no quotient is near enough to a whole number to become it.
    means: Image = ((thumbnail_sums + area / 2) / area).astype(np.uint8)
    return Fingerprint(
        sha256=_pixel_sha256(image),
        dhash=int.from_bytes(np.packbits(is_brighter).tobytes(), "big"),
        thumbnail=means.tobytes(),
    )


def _pixel_sha256(image: Image) -> str:
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _grey(image: Image) -> Image:
    # Fixed-point for 8 bits (ITU-R BT.601): no machine rounds differently.
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _area_sums(grey: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums over the equal cells of both grids, in pixels' `1 / (rows * columns)`.

    A pixel that lies in several cells counts for its share in each. A cell's weights sum to H * W.
    All numbers on the way are whole and below 2**53, where float64 is exact.
    """
    # No matrix product: BLAS would start threads for one picture, in the way of all other workers.
    depth = cv2.CV_32S if grey.size < _MOST_INT32_PIXELS else cv2.CV_64F
    corners = _corners(*grey.shape)
    weighted = cv2.integral(grey, sdepth=depth).ravel().take(corners.places) * corners.shares
    edge_sums = weighted.sum(axis=0)
    split = (_HASH_GRID[0] + 1) * (_HASH_GRID[1] + 1)
    return _cells(edge_sums[:split], _HASH_GRID), _cells(edge_sums[split:], _THUMBNAIL_GRID)


def _cells(edge_sums: NDArray[np.float64], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Sums from the picture's corner to each crossing of edges -> sums over the cells between."""
    rows, columns = grid
    sums = edge_sums.reshape(rows + 1, columns + 1)
    bands = sums[1:] - sums[:-1]
    return np.asarray(bands[:, 1:] - bands[:, :-1])


class _Corners(NamedTuple):
    """The four entries of the integral around each crossing of edges, and how near it is to each.

    Both are (4, N), N being the crossings of the hash's grid and then those of the thumbnail's.
    """

    places: NDArray[np.intp]
    shares: NDArray[np.float64]


@lru_cache(maxsize=_CACHED_SHAPES)
def _corners(height: int, width: int) -> _Corners:
    parts = [_grid_corners(height, width, grid) for grid in (_HASH_GRID, _THUMBNAIL_GRID)]
    return _Corners(*(np.concatenate(pair, axis=1) for pair in zip(*parts, strict=True)))


def _grid_corners(height: int, width: int, grid: tuple[int, int]) -> _Corners:
    rows, row_shares = _edges(height, grid[0])
    columns, column_shares = _edges(width, grid[1])
    places = rows[:, None, :, None] * (width + 1) + columns[None, :, None, :]
    shares = row_shares[:, None, :, None] * column_shares[None, :, None, :]
    return _Corners(places.reshape(4, -1), shares.reshape(4, -1).astype(np.float64))


def _edges(length: int, cells: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Between which two pixel edges the edges of equal cells lie, and how near to each: (2, N)."""
    before, share_after = np.divmod(np.arange(cells + 1) * length, cells)
    after = np.minimum(before + 1, length)
    return np.stack([before, after]), np.stack([cells - share_after, share_after])
