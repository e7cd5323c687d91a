"""Duplicates -> which sources share pictures.

A table of pairs names one row of each picture. A picture that stands in three sources is related to
all three, and so are its near duplicates; here each of these relations is a row.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

KINDS = ("exact", "near")
Codes = npt.NDArray[np.int64]

# The label of a picture whose rows in a source differ in label.
_MIXED = -1


def relations(drawn: pd.DataFrame, duplicates: pd.DataFrame) -> pd.DataFrame:
    """List the pairs of duplicate pictures in each pair of sources, which may be one source.

    `exact`: the same pixels stand in two sources, or several times in one. `near`: two pictures are
    alike, a row for each combination of their sources.

    Returns:
        Columns `kind`, `source_a`, `source_b` (categories, a <= b), `picture_a`, `picture_b`
        (numbers), `rows_a`, `rows_b` (rows of the picture in that source), `same_label` (bool).
    """
    picture = pd.factorize(drawn["sha256"])[0].astype(np.int64)
    near = _near_pictures(drawn["id"], picture, duplicates)
    repeated = np.flatnonzero(np.bincount(picture) > 1)
    links = np.concatenate([near, near[:, ::-1], np.stack([repeated, repeated], axis=1)])
    source = pd.Categorical(drawn["source"], ordered=True)
    label = pd.factorize(drawn["label"])[0]
    rows = pd.DataFrame({"picture": picture, "source": source, "label": label})
    # Pictures that have a duplicate, by the sources that hold them.
    held = rows[np.isin(picture, links)].groupby(["picture", "source"], observed=True)
    sides = held.agg(rows=("label", "size"), label=("label", "min"), last=("label", "max"))
    sides["label"] = sides["label"].where(sides["label"] == sides.pop("last"), _MIXED)
    table = pd.DataFrame(links, columns=["picture_a", "picture_b"])
    for side in "ab":
        table = table.merge(sides.reset_index().add_suffix(f"_{side}"), on=f"picture_{side}")
    is_exact = table["picture_a"] == table["picture_b"]
    is_repeated = is_exact & (table["rows_a"] > 1)
    # Of a relation and its mirror image one stays.
    is_first = is_repeated | (table["picture_a"] < table["picture_b"])
    is_within = table["source_a"] == table["source_b"]
    return table.assign(
        kind=is_exact.map({True: "exact", False: "near"}).astype("category"),
        same_label=(table["label_a"] == table["label_b"]) & (table["label_a"] != _MIXED),
    )[(is_within & is_first) | (table["source_a"] < table["source_b"])]


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
    names = ["picture", "source", "rows", "other"]
    sides = [
        related[[f"picture_{side}", f"source_{side}", f"rows_{side}", f"source_{opposite}"]]
        for side, opposite in ("ab", "ba")
    ]
    both = pd.concat([side.set_axis(names, axis="columns") for side in sides])
    counts = []
    for keys in (["source"], ["source", "other"]):
        distinct = both.drop_duplicates(["picture", *keys])
        counts.append(distinct.groupby(keys, observed=True)["rows"].sum().reset_index())
    table = pd.concat(counts).astype({"source": "str", "other": "str"})
    return table[["source", "other", "rows"]]


def least_twin_px(drawn: pd.DataFrame, duplicates: pd.DataFrame) -> pd.Series:
    """Find the smallest `native_px` among each row and its duplicates, px."""
    picture = pd.factorize(drawn["sha256"])[0].astype(np.int64)
    smallest = drawn["native_px"].groupby(picture).min().to_numpy()
    least = smallest.copy()
    first, second = _near_pictures(drawn["id"], picture, duplicates).T
    np.minimum.at(least, first, smallest[second])
    np.minimum.at(least, second, smallest[first])
    return pd.Series(least[picture], drawn.index)


def _near_pictures(ids: pd.Series, picture: Codes, duplicates: pd.DataFrame) -> Codes:
    """Number the distinct pairs of pictures that are near, (P, 2)."""
    near = duplicates.loc[duplicates["kind"] == "near", ["id_a", "id_b"]]
    known = pd.Index(ids)
    rows = np.stack([known.get_indexer(pd.Index(near[end])) for end in ("id_a", "id_b")], axis=1)
    assert (rows >= 0).all(), "a pair names no row"
    low, high = np.sort(picture[rows], axis=1).T
    # As one number each: finding unique rows of two would sort them field by field.
    return np.stack(np.divmod(np.unique(low * len(ids) + high), len(ids)), axis=1)
