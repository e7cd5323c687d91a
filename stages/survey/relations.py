"""Which sources share pictures: duplicates seen from the sources that hold them.

A table of pairs names one row of each picture. A picture that stands in three sources is related to
all three, and whatever is like it is related to them too; here each of these relations is a row.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

KINDS = ("exact", "near")
Codes = npt.NDArray[np.int64]

# Labels of a picture's rows in one source that differ.
_MIXED = -1


def relations(drawn: pd.DataFrame, duplicates: pd.DataFrame) -> pd.DataFrame:
    """A row for each picture of a source that is like a picture of a source, in both roles once.

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
    sides = _sides(drawn, picture, near)
    found = {"exact": _exact(sides), "near": _near(sides, near)}
    table = pd.concat([part.assign(kind=kind) for kind, part in found.items()], ignore_index=True)
    names = pd.Index(sorted(drawn["source"].unique()))
    labels = (table.pop("label_a"), table.pop("label_b"))
    return table.assign(
        kind=table["kind"].astype("category"),
        source_a=pd.Categorical.from_codes(table["source_a"].to_numpy(), names),
        source_b=pd.Categorical.from_codes(table["source_b"].to_numpy(), names),
        same_label=(labels[0] == labels[1]) & (labels[0] != _MIXED),
    )


def matrix(related: pd.DataFrame) -> pd.DataFrame:
    """Relations counted: `source_a`, `source_b`, `kind`, `pairs`, `same_label` (share of pairs).

    For `exact`, `pairs` are the distinct pictures that both sources hold (or one holds several
    times); for `near`, pairs of a picture of a and a picture of b.
    """
    keys = ["source_a", "source_b", "kind"]
    cells = related.groupby(keys, as_index=False, observed=True)
    counts = cells.agg(pairs=("same_label", "size"), same_label=("same_label", "mean"))
    return counts.astype(dict.fromkeys(keys, "str"))


def rows_with_twin(related: pd.DataFrame) -> pd.DataFrame:
    """How many rows of a source have a duplicate in another one: `source`, `other`, `rows`.

    `other` is a source, the same one for duplicates within it, or missing for rows that have a
    duplicate anywhere.
    """
    sides = [("a", "b"), ("b", "a")]
    columns = {"picture": "picture_{}", "source": "source_{}", "rows": "rows_{}"}
    both = pd.concat(
        [
            pd.DataFrame({name: related[key.format(own)] for name, key in columns.items()}).assign(
                other=related[f"source_{other}"]
            )
            for own, other in sides
        ]
    )
    counts = []
    for keys in (["source"], ["source", "other"]):
        distinct = both.drop_duplicates(["picture", *keys])
        counts.append(distinct.groupby(keys, observed=True)["rows"].sum().reset_index())
    return pd.concat(counts).astype({"source": "str", "other": "str"})


def least_twin_px(drawn: pd.DataFrame, duplicates: pd.DataFrame) -> pd.Series:
    """The smallest `native_px` among each row and its duplicates, px."""
    picture = pd.factorize(drawn["sha256"])[0].astype(np.int64)
    own = drawn["native_px"].groupby(picture).min().to_numpy()
    least = own.copy()
    for one, other in _near_pictures(drawn["id"], picture, duplicates).T[[[0, 1], [1, 0]]]:
        np.minimum.at(least, one, own[other])
    return pd.Series(least[picture], drawn.index)


def _near_pictures(ids: pd.Series, picture: Codes, duplicates: pd.DataFrame) -> Codes:
    """The distinct pairs of pictures that are near, (P, 2)."""
    near = duplicates.loc[duplicates["kind"] == "near", ["id_a", "id_b"]]
    known = pd.Index(ids)
    at = np.stack([known.get_indexer(pd.Index(near[name])) for name in ("id_a", "id_b")], axis=1)
    assert (at >= 0).all(), "a pair names no row"
    low, high = np.sort(picture[at], axis=1).T
    # As one number each: finding unique rows of two would sort them field by field.
    return np.stack(np.divmod(np.unique(low * len(ids) + high), len(ids)), axis=1)


def _sides(drawn: pd.DataFrame, picture: Codes, near: Codes) -> pd.DataFrame:
    """Pictures that have a duplicate, by the sources that hold them."""
    repeated = np.bincount(picture, minlength=1) > 1
    repeated[near.ravel()] = True
    rows = pd.DataFrame(
        {
            "picture": picture,
            "source": pd.factorize(drawn["source"], sort=True)[0],
            "label": pd.factorize(drawn["label"])[0],
        }
    )[repeated[picture]]
    sides = rows.groupby(["picture", "source"], as_index=False).agg(
        rows=("label", "size"), label=("label", "min"), last=("label", "max")
    )
    return sides.assign(label=sides["label"].where(sides["label"] == sides.pop("last"), _MIXED))


def _exact(sides: pd.DataFrame) -> pd.DataFrame:
    both = sides.merge(sides, on="picture", suffixes=("_a", "_b"))
    within = (both["source_a"] == both["source_b"]) & (both["rows_a"] > 1)
    both = both[within | (both["source_a"] < both["source_b"])]
    return both.assign(picture_b=both["picture"]).rename(columns={"picture": "picture_a"})


def _near(sides: pd.DataFrame, near: Codes) -> pd.DataFrame:
    pairs = pd.DataFrame(near, columns=["picture_a", "picture_b"])
    pairs = pairs.merge(sides.add_suffix("_a"), on="picture_a")
    pairs = pairs.merge(sides.add_suffix("_b"), on="picture_b")
    in_order = pairs["source_a"] <= pairs["source_b"]
    names = [name.removesuffix("_a") for name in pairs.columns if name.endswith("_a")]
    other = {f"{name}_a": f"{name}_b" for name in names}
    swapped = pairs[~in_order].rename(columns=other | {b: a for a, b in other.items()})
    return pd.concat([pairs[in_order], swapped])
