"""Duplicates -> which sources share pictures.

A table of pairs names one row of each picture. A picture that stands in three sources is related to
all three, and its near duplicates are related to them too; here each of these relations is a row.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

KINDS = ("exact", "near")
Codes = npt.NDArray[np.int64]

# The label of a picture whose rows in a source differ in label.
_MIXED = -1


def relations(drawn: pd.DataFrame, duplicates: pd.DataFrame) -> pd.DataFrame:
    """A row for each pair of sources, ordered, and each pair of duplicate pictures in them.

    `exact`: the same pixels stand in two sources, or several times in one. `near`: two pictures are
    alike, a row for each combination of their sources.

    Args:
        drawn: rows with `id`, `source`, `label`, `sha256`.
        duplicates: pairs with `id_a`, `id_b`, `kind`; the near ones join distinct pictures, whose
            rows may stand for them in several pairs.

    Returns:
        Columns `kind`, `source_a`, `source_b` (categories, a <= b), `picture_a`, `picture_b`
        (numbers), `rows_a`, `rows_b` (rows of the picture in that source), `same_label` (bool).
    """
    picture = pd.factorize(drawn["sha256"])[0].astype(np.int64)
    near = _near_pictures(drawn["id"], picture, duplicates)
    repeated = np.bincount(picture, minlength=1) > 1
    repeated[near.ravel()] = True
    source, names = pd.factorize(drawn["source"], sort=True)
    label = pd.factorize(drawn["label"])[0]
    rows = pd.DataFrame({"picture": picture, "source": source, "label": label})[repeated[picture]]
    # Pictures that have a duplicate, by the sources that hold them.
    sides = rows.groupby(["picture", "source"], as_index=False).agg(
        rows=("label", "size"), label=("label", "min"), last=("label", "max")
    )
    sides["label"] = sides["label"].where(sides["label"] == sides.pop("last"), _MIXED)
    exact = sides.merge(sides, on="picture", suffixes=("_a", "_b"))
    within = (exact["source_a"] == exact["source_b"]) & (exact["rows_a"] > 1)
    exact = exact[within | (exact["source_a"] < exact["source_b"])]
    exact = exact.rename(columns={"picture": "picture_a"})
    pairs = pd.DataFrame(near, columns=["picture_a", "picture_b"])
    pairs = pairs.merge(sides.add_suffix("_a"), on="picture_a")
    pairs = pairs.merge(sides.add_suffix("_b"), on="picture_b")
    in_order = pairs["source_a"] <= pairs["source_b"]
    other = {"a": "b", "b": "a"}
    swapped = pairs[~in_order].rename(columns=lambda name: name[:-1] + other[name[-1]])
    parts = [
        exact.assign(kind="exact", picture_b=exact["picture_a"]),
        pd.concat([pairs[in_order], swapped]).assign(kind="near"),
    ]
    table = pd.concat(parts, ignore_index=True)
    label_a, label_b = table.pop("label_a"), table.pop("label_b")
    return table.assign(
        kind=table["kind"].astype("category"),
        source_a=pd.Categorical.from_codes(table["source_a"].to_numpy(), names),
        source_b=pd.Categorical.from_codes(table["source_b"].to_numpy(), names),
        same_label=(label_a == label_b) & (label_a != _MIXED),
    )


def matrix(related: pd.DataFrame) -> pd.DataFrame:
    """Count relations: `source_a`, `source_b`, `kind`, `pairs`, `same_label` (share of pairs).

    For `exact`, `pairs` are the distinct pictures that both sources hold (or one holds several
    times); for `near`, pairs of a picture of a and a picture of b.
    """
    keys = ["source_a", "source_b", "kind"]
    cells = related.groupby(keys, as_index=False, observed=True)
    counts = cells.agg(pairs=("same_label", "size"), same_label=("same_label", "mean"))
    return counts.astype(dict.fromkeys(keys, "str"))


def rows_with_twin(related: pd.DataFrame) -> pd.DataFrame:
    """Count rows of a source that have a duplicate in another one: `source`, `other`, `rows`.

    `other` is a source, the same one for duplicates within it, or missing for rows that have a
    duplicate anywhere.
    """
    names = ["picture", "source", "rows"]
    both = pd.concat(
        [
            related[[*(f"{name}_{side}" for name in names), f"source_{opposite}"]].set_axis(
                [*names, "other"], axis="columns"
            )
            for side, opposite in ("ab", "ba")
        ]
    )
    counts = []
    for keys in (["source"], ["source", "other"]):
        distinct = both.drop_duplicates(["picture", *keys])
        counts.append(distinct.groupby(keys, observed=True)["rows"].sum().reset_index())
    table = pd.concat(counts).astype({"source": "str", "other": "str"})
    return table[["source", "other", "rows"]]


def least_twin_px(drawn: pd.DataFrame, duplicates: pd.DataFrame) -> pd.Series:
    """The smallest `native_px` among each row and its duplicates, px."""
    picture = pd.factorize(drawn["sha256"])[0].astype(np.int64)
    smallest = drawn["native_px"].groupby(picture).min().to_numpy()
    least = smallest.copy()
    first, second = _near_pictures(drawn["id"], picture, duplicates).T
    np.minimum.at(least, first, smallest[second])
    np.minimum.at(least, second, smallest[first])
    return pd.Series(least[picture], drawn.index)


def _near_pictures(ids: pd.Series, picture: Codes, duplicates: pd.DataFrame) -> Codes:
    """The distinct pairs of pictures that are near, (P, 2)."""
    near = duplicates.loc[duplicates["kind"] == "near", ["id_a", "id_b"]]
    known = pd.Index(ids)
    rows = np.stack([known.get_indexer(pd.Index(near[end])) for end in ("id_a", "id_b")], axis=1)
    assert (rows >= 0).all(), "a pair names no row"
    low, high = np.sort(picture[rows], axis=1).T
    # As one number each: finding unique rows of two would sort them field by field.
    return np.stack(np.divmod(np.unique(low * len(ids) + high), len(ids)), axis=1)
