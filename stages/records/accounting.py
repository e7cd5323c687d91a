"""What the manifest counts: rows, copies, leaks found and what was done.

Keys are fixed where they can be, so that `dvc metrics diff` compares like with like.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from stages.records.frozen import FrozenManifest
from stages.records.publication import FileEntry
from stages.records.schema import SPLITS
from stages.sources.labels import CLASSES

UNSPLIT = "unsplit"
_REASONS = tuple(f"{kind}_in_{split}" for kind in ("twin", "group") for split in ("test", "val"))


def report(frozen: FrozenManifest, *, files: Mapping[str, FileEntry]) -> dict[str, Any]:
    """The content of metrics/manifest.json, under one key so that no other metrics collide."""
    official = frozen.drawn.assign(split=frozen.drawn["official"].fillna(UNSPLIT))
    counts = {
        "rows": {
            "official": tally(official["split"], (*SPLITS, UNSPLIT)),
            "carved": tally(frozen.drawn["split"], SPLITS),
            "final": tally(frozen.rows["split"], SPLITS),
        },
        "copies": copies(frozen.drawn),
        "leaks": {
            "found": leaks(frozen.drawn),
            "excluded": tally(frozen.excluded["reason"], _REASONS),
            "left": leaks(frozen.rows),
        },
        "official": label_counts(official),
        "final": label_counts(frozen.rows),
    }
    hashes = {
        name.removesuffix(".csv"): {"rows": entry["rows"], "sha256": entry["sha256"]}
        for name, entry in files.items()
    }
    return {"manifest": {**counts, "files": hashes}}


def tally(values: pd.Series, names: tuple[str, ...]) -> dict[str, int]:
    """How often each name occurs, zeros included."""
    return {name: int((values == name).sum()) for name in names}


def label_counts(rows: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Rows by source, split and label; every label of every split that a source has."""
    table = pd.crosstab([rows["source"], rows["split"]], rows["label"])
    table = table.reindex(columns=list(CLASSES), fill_value=0)
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for (source, split), row in zip(table.index, table.to_numpy(), strict=True):
        counts.setdefault(source, {})[split] = dict(zip(CLASSES, row.tolist(), strict=True))
    return counts


def copies(rows: pd.DataFrame) -> dict[str, Any]:
    """Pictures of equal pixels: how many, how far they agree, and between which sources.

    `by_sources` counts distinct pictures: `a+b` those that a and b share, `a+a` those that a has
    more than once.
    """
    repeated = rows[rows["sha256"].duplicated(keep=False)]
    pictures = repeated.groupby("sha256")
    return {
        "pictures": pictures.ngroups,
        "redundant_rows": len(repeated) - pictures.ngroups,
        "label_conflicts": _num_mixed(repeated, "label"),
        "across_splits": _num_mixed(repeated, "split"),
        "by_sources": _by_sources(repeated),
    }


def leaks(rows: pd.DataFrame) -> dict[str, int]:
    """Groups in two splits, by pair of splits, and the val and test rows of groups in train."""
    group, keys = pd.factorize(rows["group"])
    # Sizes by split and group; looking up groups by their long names would take seconds.
    sizes = {
        name: np.bincount(group[(rows["split"] == name).to_numpy()], minlength=len(keys))
        for name in SPLITS
    }
    counts = {
        f"{first}_{second}_groups": int(((sizes[first] > 0) & (sizes[second] > 0)).sum())
        for first, second in combinations(SPLITS, 2)
    }
    for name in ("val", "test"):
        counts[f"{name}_rows_with_kin_in_train"] = int(sizes[name][sizes["train"] > 0].sum())
    return counts


def _num_mixed(repeated: pd.DataFrame, column: str) -> int:
    """Pictures whose copies differ in a column."""
    kinds = repeated.drop_duplicates(["sha256", column])
    return int(kinds.loc[kinds["sha256"].duplicated(), "sha256"].nunique())


def _by_sources(repeated: pd.DataFrame) -> dict[str, int]:
    picture, _ = pd.factorize(repeated["sha256"])
    source, names = pd.factorize(repeated["source"], sort=True)
    # Entries of one picture and source add up to how often the source has it.
    ones, shape = np.ones(len(repeated), dtype=np.int64), (len(repeated), len(names))
    times = csr_array((ones, (picture, source)), shape=shape)
    has = (times > 0).astype(np.int64)
    shared = (has.T @ has).toarray()
    np.fill_diagonal(shared, (times > 1).sum(axis=0))
    return {
        f"{names[a]}+{names[b]}": int(shared[a, b])
        for a in range(len(names))
        for b in range(a, len(names))
        if shared[a, b]
    }
