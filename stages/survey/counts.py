"""The survey -> the tables of plots/data/manifest/ and the few numbers of metrics/manifest.json.

A number is counted once, in a table; the metrics are those that are worth comparing between runs.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from stages.config import CLASSES
from stages.records.schema import SPLITS
from stages.records.views import BUCKETS, size_table
from stages.splitting.frozen import MANIFEST_NAME, FrozenManifest
from stages.survey.relations import matrix
from stages.survey.survey import Survey

UNSPLIT = "unsplit"
EVALUATED = ("val", "test")
REASONS = (
    *(f"{kind}_in_{split}" for kind in ("twin", "near_twin", "group") for split in EVALUATED[::-1]),
    "copy_of_kept",
)

# By subject, part and name; a row each in counts.csv.
Counts = dict[tuple[str, str], dict[str, int]]


def count(frozen: FrozenManifest) -> Counts:
    """Count rows, duplicates and leaks: those `found` before any row left, and those `left`.

    Labels of `compared` duplicates (pictures that repeat and near pairs) are compared.
    """
    drawn, pairs = frozen.drawn, frozen.duplicates
    repeated = drawn[drawn["sha256"].duplicated(keep=False)]
    pictures = repeated.groupby("sha256")[["label", "split"]].nunique()
    exact = {
        "pictures": len(pictures),
        "redundant_rows": len(repeated) - len(pictures),
        "label_conflicts": int((pictures["label"] > 1).sum()),
        "across_splits": int((pictures["split"] > 1).sum()),
    }
    near = _pair_counts(pairs[pairs["kind"] == "near"])
    official = drawn["official"].fillna(UNSPLIT)
    return {
        ("rows", "official"): tally(official, (*SPLITS, UNSPLIT)),
        ("rows", "carved"): tally(drawn["split"], SPLITS),
        ("rows", "final"): tally(frozen.rows["split"], SPLITS),
        ("duplicates", "exact"): exact,
        ("duplicates", "near"): near,
        ("duplicates", "review"): _pair_counts(frozen.review),
        ("duplicates", "all"): {
            "compared": exact["pictures"] + near["pairs"],
            "label_conflicts": exact["label_conflicts"] + near["label_conflicts"],
            "largest_group_rows": int(drawn["group"].value_counts().iloc[0]),
        },
        ("leaks", "found"): leaks(drawn),
        ("leaks", "excluded"): tally(frozen.excluded["reason"], REASONS),
        ("leaks", "left"): leaks(frozen.rows),
    }


def tally(values: pd.Series, names: Sequence[str]) -> dict[str, int]:
    """Count how often each name occurs, zeros included; other names are a mistake."""
    counts = {name: int((values == name).sum()) for name in names}
    assert sum(counts.values()) == len(values), f"expected only {names}"
    return counts


def leaks(rows: pd.DataFrame) -> dict[str, int]:
    """Count groups that stand in several splits, and val and test rows of groups in train."""
    # By number: looking up groups by their long names would take seconds.
    sizes = pd.crosstab(pd.factorize(rows["group"])[0], rows["split"].to_numpy())
    sizes = sizes.reindex(columns=list(SPLITS), fill_value=0)
    stands = sizes > 0
    counts = {"groups": int((stands.sum(axis=1) > 1).sum())}
    for first, second in combinations(SPLITS, 2):
        counts[f"{first}_{second}_groups"] = int((stands[first] & stands[second]).sum())
    for name in EVALUATED:
        counts[f"{name}_rows_with_kin_in_train"] = int(sizes.loc[stands["train"], name].sum())
    return counts


def summarize(
    survey: Survey, counts: Counts, *, files: Mapping[str, Any], num_warnings: int
) -> dict[str, Any]:
    """Build the content of metrics/manifest.json, under one key: no other metrics collide."""
    frozen = survey.frozen
    sources = frozen.rows["source"].value_counts().sort_index()
    content: dict[str, Any] = {
        "sha256": {name: files[f"{name}.csv"]["sha256"] for name in (MANIFEST_NAME, *frozen.views)},
        "rows": counts["rows", "final"],
        "excluded": len(frozen.excluded),
        "duplicates": {
            "exact_pictures": counts["duplicates", "exact"]["pictures"],
            "near_pairs": counts["duplicates", "near"]["pairs"],
            "review_pairs": counts["duplicates", "review"]["pairs"],
            "label_conflicts": counts["duplicates", "all"]["label_conflicts"],
        },
        **{
            f"leaks_{part}": {
                "groups": counts["leaks", part]["groups"],
                "rows_with_kin_in_train": sum(
                    counts["leaks", part][f"{split}_rows_with_kin_in_train"] for split in EVALUATED
                ),
            }
            for part in ("found", "left")
        },
        "rejects": sum(sum(index["rejects"].values()) for index in survey.indexes.values()),
        "warnings": num_warnings,
        "sources": {name: int(n) for name, n in sources.items()},
    }
    return {"manifest": content}


def plot_tables(survey: Survey, counts: Counts) -> dict[str, pd.DataFrame]:
    """The tables of plots/data/manifest/, by the name of their file."""
    frozen, stages = survey.frozen, survey.stages
    official = frozen.drawn.assign(split=frozen.drawn["official"].fillna(UNSPLIT))
    long = [(*key, name, value) for key, part in counts.items() for name, value in part.items()]
    rejects = [
        (name, reason, rows)
        for name, index in survey.indexes.items()
        for reason, rows in sorted(index["rejects"].items())
    ]
    # What each stage trains on and each view holds.
    selections = {("stage", name): rows for name, rows in stages.items()}
    selections |= {("view", name): rows for name, rows in frozen.views.items()}
    return {
        "counts": pd.DataFrame(long, columns=["subject", "part", "count", "value"]),
        "official_rows": _long(class_table(official, "source", "split"), "label"),
        "rows": _long(class_table(frozen.rows, "source", "split"), "label"),
        "carved_shares": carved_shares(frozen.drawn),
        "duplicate_free": duplicate_free(frozen.drawn),
        "native_px": pd.concat(
            _long(size_table(rows), "bucket", selection=name)
            for name, rows in {"manifest": frozen.rows, **stages}.items()
        ),
        "selections": pd.concat(
            _long(class_table(rows, "source"), "label", kind=kind, name=name)
            for (kind, name), rows in selections.items()
        ),
        "duplicates": matrix(survey.related).round({"same_label": 6}),
        # Boxes over the edge of their photo are among those that were cropped.
        "standardized": pd.DataFrame(
            {"source": name, "faces": index["faces"], "rejects": sum(index["rejects"].values())}
            | {f"crop_{how}": index["crops"][how] for how in ("none", "box", "aligned")}
            | {"boxes_partly_outside": index["boxes_partly_outside"]}
            for name, index in survey.indexes.items()
        ),
        "rejects": pd.DataFrame(rejects, columns=["source", "reason", "rows"]),
    }


def class_table(rows: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Count rows by keys (index) and class (a column each); splits are in their order."""
    splits = pd.Categorical(rows["split"], [*SPLITS, UNSPLIT])
    by = [pd.Series(splits, rows.index, name=key) if key == "split" else rows[key] for key in keys]
    return pd.crosstab(by, rows["label"]).reindex(columns=list(CLASSES), fill_value=0)


def carved_shares(drawn: pd.DataFrame) -> pd.DataFrame:
    """Compute `split`, `label`, `share` of the rows that were carved, of sources without a split.

    Few groups of a class can miss the share of the params widely: each is drawn by itself.
    """
    shares = []
    for split in EVALUATED:
        own = drawn.loc[drawn["official"] == split, "source"].unique()
        rows = drawn[~drawn["source"].isin(own)]
        carved = (rows["split"] == split).groupby(rows["label"]).mean().round(4)
        shares += [(split, name, carved[name]) for name in CLASSES if name in carved]
    return pd.DataFrame(shares, columns=["split", "label", "share"])


def duplicate_free(drawn: pd.DataFrame) -> pd.DataFrame:
    """Count `rows` and `duplicate_free` ones of each val and test, before any row left.

    A row is duplicate-free if no exact or near duplicate of it stands in another split. The score
    on all rows is comparable with other people's, the score on the duplicate-free part is fair.
    """
    evaluated = drawn[drawn["split"].isin(EVALUATED)]
    counted = evaluated.assign(rows=1, duplicate_free=evaluated["twin_splits"] == "")
    return counted.groupby(["source", "split"], as_index=False)[["rows", "duplicate_free"]].sum()


def stage_line(rows: pd.DataFrame) -> str:
    """Describe a stage's train rows and native sizes for the log; empty buckets are left out."""
    sizes = size_table(rows).sum()
    filled = ", ".join(f"{name} px {sizes[name]:,}" for name in BUCKETS if sizes[name])
    return f"{len(rows):,} train rows; native size {filled}"


def _pair_counts(pairs: pd.DataFrame) -> dict[str, int]:
    is_counted = {
        "mirrored": pairs["mirrored"] == "true",
        "label_conflicts": pairs["same_label"] == "false",
        "across_splits": pairs["split_a"] != pairs["split_b"],
    }
    return {"pairs": len(pairs)} | {name: int(chosen.sum()) for name, chosen in is_counted.items()}


def _long(table: pd.DataFrame, column: str, **constants: str) -> pd.DataFrame:
    """Make a row of each cell, in the table's order: constants, its index, `column`, `rows`."""
    cells = pd.Series(table.rename_axis(columns=column).stack(), name="rows").reset_index()
    return cells.assign(**constants)[[*constants, *cells.columns]]
