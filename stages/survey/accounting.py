"""What the manifest counts: rows, duplicates, leaks found and what was done, sizes, files.

Keys are fixed where they can be, so that `dvc metrics diff` compares like with like.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from stages.config import CLASSES
from stages.records.native_sizes import BUCKETS, size_table
from stages.records.schema import SPLITS
from stages.splitting.frozen import FrozenManifest
from stages.splitting.publication import FileEntry
from stages.survey.data_warnings import CODES, DataWarning
from stages.survey.indexes import SourceIndex
from stages.survey.relations import KINDS, matrix
from stages.survey.survey import Survey

UNSPLIT = "unsplit"
EVALUATED = ("val", "test")
REASONS = (
    *(f"{kind}_in_{split}" for kind in ("twin", "near_twin", "group") for split in ("test", "val")),
    "copy_of_kept",
)
_SHARE_DIGITS = 4


def report(
    survey: Survey, *, warnings: Iterable[DataWarning], files: Mapping[str, FileEntry]
) -> dict[str, Any]:
    """The content of metrics/manifest.json, under one key so that no other metrics collide."""
    frozen = survey.frozen
    official = frozen.drawn.assign(split=frozen.drawn["official"].fillna(UNSPLIT))
    return {
        "manifest": {
            "rows": {
                "official": tally(official["split"], (*SPLITS, UNSPLIT)),
                "carved": tally(frozen.drawn["split"], SPLITS),
                "final": tally(frozen.rows["split"], SPLITS),
            },
            "duplicates": duplicates(frozen, survey.related),
            "leaks": {
                "found": leaks(frozen.drawn),
                "excluded": tally(frozen.excluded["reason"], REASONS),
                "left": leaks(frozen.rows),
            },
            "duplicate_free": duplicate_free(frozen.drawn),
            "carved_share": carved_shares(frozen.drawn),
            "warnings": tally(pd.Series([each.code for each in warnings], dtype="str"), CODES),
            "official": label_counts(official),
            "final": label_counts(frozen.rows),
            "native_px": native_sizes(frozen.rows),
            "stages": {name: stage_counts(rows) for name, rows in survey.stages.items()},
            "standardized": {index.name: standardized_counts(index) for index in survey.indexes},
            "files": file_counts(files, views=frozen.views),
        }
    }


def tally(values: pd.Series, names: Sequence[str]) -> dict[str, int]:
    """How often each name occurs, zeros included; there are no others."""
    counts = {name: int((values == name).sum()) for name in names}
    assert sum(counts.values()) == len(values), f"expected only {names}"
    return counts


def label_counts(rows: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Rows by source, split and label; every label of every split that a source has."""
    table = pd.crosstab([rows["source"], rows["split"]], rows["label"])
    table = table.reindex(columns=list(CLASSES), fill_value=0)
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for (source, split), row in zip(table.index, table.to_numpy(), strict=True):
        counts.setdefault(source, {})[split] = dict(zip(CLASSES, row.tolist(), strict=True))
    return counts


def duplicates(frozen: FrozenManifest, related: pd.DataFrame) -> dict[str, Any]:
    """Pictures of equal pixels, pairs that are nearly equal, how far they agree, and where.

    `by_sources` counts as `relations.matrix` does: `a+b` between two sources, `a+a` within one.
    """
    exact = _exact_counts(frozen.drawn)
    pairs = frozen.duplicates
    near = _pair_counts(pairs[pairs["kind"] == "near"])
    conflicts = exact["label_conflicts"] + near["label_conflicts"]
    by_sources: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for cell in matrix(related).to_dict("records"):
        by_sources[cell["kind"]][f"{cell['source_a']}+{cell['source_b']}"] = cell["pairs"]
    return {
        "exact": exact | {"by_sources": by_sources["exact"]},
        "near": near | {"by_sources": by_sources["near"]},
        "review": _pair_counts(frozen.review),
        "label_conflict_share": _share(conflicts, exact["pictures"] + near["pairs"]),
        "largest_group_rows": int(frozen.drawn["group"].value_counts().iloc[0]),
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
    for name in EVALUATED:
        counts[f"{name}_rows_with_kin_in_train"] = int(sizes[name][sizes["train"] > 0].sum())
    return counts


def duplicate_free(drawn: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Of each source's val and test, before any row left: rows, and those without a twin elsewhere.

    A twin is an exact or near duplicate in another split. The score on all rows is comparable with
    other people's, the one on the duplicate-free part is fair.
    """
    evaluated = drawn[drawn["split"].isin(EVALUATED)]
    free = evaluated["twin_splits"] == ""
    counts = free.groupby([evaluated["source"], evaluated["split"]]).agg(["size", "sum"])
    found: dict[str, dict[str, dict[str, int]]] = {}
    for (source, split), row in zip(counts.index, counts.to_numpy(), strict=True):
        rows, num_free = (int(number) for number in row)
        found.setdefault(source, {})[split] = {"rows": rows, "duplicate_free": num_free}
    return found


def carved_shares(drawn: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Of the rows of sources without an own val (or test), the share of each class carved for it.

    Each group is drawn by itself, so few groups of a class can miss the share of the params widely.
    """
    shares = {}
    for split in EVALUATED:
        own = drawn.loc[drawn["official"] == split, "source"].unique()
        rows = drawn[~drawn["source"].isin(own)]
        carved = (rows["split"] == split).groupby(rows["label"]).mean()
        shares[split] = {
            name: round(float(carved[name]), _SHARE_DIGITS) for name in CLASSES if name in carved
        }
    return shares


def native_sizes(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Rows by source and bucket of native size."""
    table = size_table(rows)
    return {str(name): _as_numbers(table.loc[name]) for name in table.index}


def stage_counts(rows: pd.DataFrame) -> dict[str, Any]:
    """What a stage trains on, by class, source and native size."""
    table = size_table(rows)
    return {
        "train_rows": len(rows),
        "classes": tally(rows["label"], CLASSES),
        "sources": _as_numbers(table.sum(axis=1)),
        "native_px": _as_numbers(table.sum()),
    }


def stage_line(rows: pd.DataFrame) -> str:
    """A stage's train rows and their native sizes, for a log; empty buckets are left out."""
    sizes = size_table(rows).sum()
    found = ", ".join(f"{name} px {sizes[name]:,}" for name in BUCKETS if sizes[name])
    return f"{len(rows):,} train rows; native size {found}"


def standardized_counts(index: SourceIndex) -> dict[str, Any]:
    """What standardize counted of a source folder."""
    return {
        "faces": index.faces,
        "rejects": dict(index.rejects),
        "crops": dict(index.crops),
        "boxes_partly_outside": index.boxes_partly_outside,
    }


def file_counts(
    files: Mapping[str, FileEntry], *, views: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """Rows and hash of each CSV by its name, and of views also the rows of each class."""
    counts: dict[str, Any] = {}
    for file, entry in files.items():
        name = file.removesuffix(".csv")
        counts[name] = {"rows": entry["rows"], "sha256": entry["sha256"]}
        if name in views:
            counts[name]["classes"] = tally(views[name]["label"], CLASSES)
    return counts


def _exact_counts(drawn: pd.DataFrame) -> dict[str, int]:
    repeated = drawn[drawn["sha256"].duplicated(keep=False)]
    pictures = int(repeated["sha256"].nunique())
    return {
        "pictures": pictures,
        "redundant_rows": len(repeated) - pictures,
        "label_conflicts": _num_mixed(repeated, "label"),
        "across_splits": _num_mixed(repeated, "split"),
    }


def _num_mixed(repeated: pd.DataFrame, column: str) -> int:
    """Pictures whose copies differ in a column."""
    kinds = repeated.drop_duplicates(["sha256", column])
    return int(kinds.loc[kinds["sha256"].duplicated(), "sha256"].nunique())


def _pair_counts(pairs: pd.DataFrame) -> dict[str, int]:
    return {
        "pairs": len(pairs),
        "mirrored": int((pairs["mirrored"] == "true").sum()),
        "label_conflicts": int((pairs["same_label"] == "false").sum()),
        "across_splits": int((pairs["split_a"] != pairs["split_b"]).sum()),
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, _SHARE_DIGITS) if whole else 0.0


def _as_numbers(counts: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in counts.items()}
