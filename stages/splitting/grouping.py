"""Which faces must not be torn apart: rows -> groups.

A group is a connected component over edges between rows. Every reason for rows to belong together
gives edges of its own; the rest does not care what the reasons are.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Positions = npt.NDArray[np.int64]


def group_keys(photos: pd.Series, edges: Sequence[Positions]) -> pd.Series:
    """The group of each row: faces of one photo and rows joined by edges, transitively.

    A group is called by the smallest photo key in it, which no other group can hold. So the name
    does not depend on the order of rows nor on rows outside; it changes only when a row joins the
    group whose photo sorts before all others, or when two groups grow together.
    """
    component = components(len(photos), [edges_by_value(photos), *edges])
    ranks, names = pd.factorize(photos, sort=True)
    smallest = np.full(len(photos), len(photos), dtype=np.int64)
    np.minimum.at(smallest, component, ranks)
    return pd.Series(
        np.asarray(names, dtype=object)[smallest[component]], photos.index, dtype="str"
    )


def edges_by_value(values: pd.Series) -> Positions:
    """Edges (E, 2) that join each row with the first row of the same value."""
    codes, _ = pd.factorize(values)
    _, first = np.unique(codes, return_index=True)
    edges = np.stack([first[codes], np.arange(len(codes))], axis=1)
    return np.asarray(edges[edges[:, 0] != edges[:, 1]], dtype=np.int64)


def components(num_rows: int, edges: Sequence[Positions]) -> Positions:
    """The number of the connected component of each row, (N,)."""
    joined = np.concatenate(edges)
    weights = np.ones(len(joined), dtype=np.int8)
    graph = coo_array((weights, (joined[:, 0], joined[:, 1])), shape=(num_rows, num_rows))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
