"""A decoded picture -> a hash of its pixels, and two prints that survive small changes."""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.faces.decode import Image

THUMBNAIL_SIDE = 24
# The hash compares each cell with the next one: 8 bits take 9 cells.
_GRIDS = ((8, 9), (THUMBNAIL_SIDE, THUMBNAIL_SIDE))


class Fingerprint(NamedTuple):
    """What a picture is known by, the same on every machine.

    `sha256` is that of shape and pixels, however they were encoded. `dhash` has a bit for each of
    8 x 8 neighbours, row by row, most significant first: set where a cell is brighter than its
    right neighbour. `thumbnail` is 24 x 24 grey values, uint8, row by row: each is the mean over
    its part of the picture, rounded half up.
    """

    sha256: str
    dhash: int
    thumbnail: bytes


def fingerprint(image: Image) -> Fingerprint:
    """Fingerprint an RGB picture (H, W, 3)."""
    height, width = image.shape[:2]
    area = height * width
    # Fixed-point for 8 bits (ITU-R BT.601): no machine rounds differently.
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    hash_sums, thumbnail_sums = _area_sums(grey)
    is_brighter = hash_sums[:, :-1] > hash_sums[:, 1:]
    # The half is exact below 2**52, and no quotient is near enough to a whole number to become it.
    means: Image = ((thumbnail_sums + area / 2) / area).astype(np.uint8)
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return Fingerprint(
        sha256=digest.hexdigest(),
        dhash=int.from_bytes(np.packbits(is_brighter).tobytes(), "big"),
        thumbnail=means.tobytes(),
    )


def _area_sums(grey: Image) -> list[NDArray[np.float64]]:
    """Sum the equal cells of the hash's and of the thumbnail's grid.

    A pixel in several cells counts for its share in each. A cell's weights sum to H * W, so that
    all numbers on the way are whole and below 2**53, where float64 is exact.
    """
    # No matrix product: BLAS would start threads for one picture, in the way of all other workers.
    places, shares = _corners(*grey.shape)
    weighted = cv2.integral(grey, sdepth=cv2.CV_64F).ravel().take(places) * shares
    # Sums from the picture's corner to each crossing of edges.
    edge_sums = np.split(weighted.sum(axis=0), [(_GRIDS[0][0] + 1) * (_GRIDS[0][1] + 1)])
    return [
        np.diff(np.diff(sums.reshape(rows + 1, -1), axis=0), axis=1)
        for sums, (rows, _) in zip(edge_sums, _GRIDS, strict=True)
    ]


@lru_cache(maxsize=256)  # photos' faces have any shape, and one takes 46 kB
def _corners(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the entries of the integral around each crossing of edges, and their shares: (4, N).

    First come the crossings of the hash's grid, then those of the thumbnail's.
    """
    all_places, all_shares = [], []
    for num_rows, num_columns in _GRIDS:
        rows, row_shares = _edges(height, num_rows)
        columns, column_shares = _edges(width, num_columns)
        places = rows[:, None, :, None] * (width + 1) + columns[None, :, None, :]
        shares = row_shares[:, None, :, None] * column_shares[None, :, None, :]
        all_places.append(places.reshape(4, -1))
        all_shares.append(shares.reshape(4, -1).astype(np.float64))
    return np.concatenate(all_places, axis=1), np.concatenate(all_shares, axis=1)


def _edges(length: int, cells: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the pixel edges on both sides of each edge of equal cells, and their shares: (2, N)."""
    before, share_after = np.divmod(np.arange(cells + 1) * length, cells)
    after = np.minimum(before + 1, length)
    return np.stack([before, after]), np.stack([cells - share_after, share_after])
