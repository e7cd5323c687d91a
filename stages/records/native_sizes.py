"""Buckets of `native_px`, the real detail of a face, by which sources and stages are compared."""

from itertools import pairwise

import numpy as np
import pandas as pd

# The smallest size of each bucket, px.
EDGES = (0, 32, 48, 64, 96, 128, 192, 256, 384)
BUCKETS = (
    f"lt{EDGES[1]}",
    *(f"{low}_{high - 1}" for low, high in pairwise(EDGES[1:])),
    f"ge{EDGES[-1]}",
)


def size_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Number of rows by source (index, sorted) and native size (a column for each of BUCKETS)."""
    bucket = np.searchsorted(EDGES, rows["native_px"].to_numpy(), side="right") - 1
    source, names = pd.factorize(rows["source"], sort=True)
    counts = np.zeros((len(names), len(BUCKETS)), dtype=np.int64)
    np.add.at(counts, (source, bucket), 1)
    return pd.DataFrame(counts, index=pd.Index(names, name="source"), columns=list(BUCKETS))
