"""Rows that show the same picture: rows with thumbnails -> pairs of duplicates.

Exact duplicates have equal pixels. Near ones correlate by `near_correlation` or more as thumbnails,
as they stand or mirrored; pairs from `review_correlation` on are for a person to look at. A row's
reading is the dataset that it was read from: expw for a row of expw_hq or expw_lq.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.config import Duplicates
from stages.faces.fingerprint import THUMBNAIL_SIDE
from stages.records.schema import SPLITS, source_of
from stages.splitting.similarity import Pairs, Positions, similar_pairs
from stages.splitting.splits import edges_by_value


class DuplicatePairs(NamedTuple):
    """Pairs of positions of rows. `exact` joins each row with the first row of its picture.

    `near` and `review` are between different pictures; a picture that several readings share is in
    them once for each reading, so that a reading's pairs do not depend on the others.
    """

    exact: Positions
    near: Pairs
    review: Pairs


def find_duplicates(rows: pd.DataFrame, *, settings: Duplicates) -> DuplicatePairs:
    """Search all rows (with `thumbnail`, bytes) for duplicates, across all sources."""
    pictures = np.flatnonzero(~(source_of(rows["photo"]) + " " + rows["sha256"]).duplicated())
    data = np.frombuffer(b"".join(rows["thumbnail"].iloc[pictures]), np.uint8)
    thumbnails = data.reshape(len(pictures), THUMBNAIL_SIDE**2)
    pairs = similar_pairs(thumbnails, at_least=settings.review_correlation)
    pairs = pairs._replace(first=pictures[pairs.first], second=pictures[pairs.second])
    sha256 = rows["sha256"].to_numpy()
    unlike = sha256[pairs.first] != sha256[pairs.second]
    is_near = pairs.correlation >= settings.near_correlation
    return DuplicatePairs(
        exact=edges_by_value(rows["sha256"]),
        near=pairs.only(unlike & is_near),
        review=pairs.only(unlike & ~is_near),
    )


def near_pictures(rows: pd.DataFrame, pairs: DuplicatePairs) -> pd.DataFrame:
    """List the pictures that are near each other, by hash: `sha256` and `other`, both ways."""
    sha256 = rows["sha256"].to_numpy()
    edges = sha256[pairs.near.edges()]
    both = np.concatenate([edges, edges[:, ::-1]])
    return pd.DataFrame(both, columns=["sha256", "other"], dtype="str").drop_duplicates()


def edges_within_readings(rows: pd.DataFrame, pairs: DuplicatePairs) -> list[Positions]:
    """Join duplicates of one reading: no other source has a part in these edges."""
    readings = source_of(rows["photo"])
    names = readings.to_numpy()
    within = pairs.near.only(names[pairs.near.first] == names[pairs.near.second])
    return [edges_by_value(readings + " " + rows["sha256"]), within.edges()]


def twin_splits(rows: pd.DataFrame, *, splits: pd.Series, near: pd.DataFrame) -> pd.Series:
    """Name the other splits in which a duplicate of each row stands (`train+val`), or nothing.

    A duplicate is a row of the same picture or of a picture near it: pairs, not chains of them.
    """
    picture, hashes = pd.factorize(rows["sha256"])
    first, second = (pd.Index(hashes).get_indexer(near[name]) for name in ("sha256", "other"))
    text = pd.Series("", rows.index, dtype="str")
    for name in SPLITS:
        stands = np.zeros(len(hashes), dtype=bool)
        stands[picture[(splits == name).to_numpy()]] = True
        near_stands = stands.copy()
        np.logical_or.at(near_stands, first, stands[second])
        is_twin = pd.Series(near_stands[picture], rows.index) & (splits != name)
        text = text.mask(is_twin, text.where(text == "", text + "+") + name)
    return text


def pair_tables(drawn: pd.DataFrame, pairs: DuplicatePairs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """List the duplicates and the pairs for review, as tables for people.

    n exact copies make n - 1 pairs, with the first id. The splits are those before anything is
    excluded. `same_label` is `true` or `false`: copies that disagree measure the noise of labels.
    """
    first, second = pairs.exact.T
    exact = Pairs(first, second, np.ones(len(first)), np.zeros(len(first), dtype=bool))
    duplicates = [_table(drawn, exact, kind="exact"), _table(drawn, pairs.near, kind="near")]
    joined = pd.concat(duplicates).sort_values(["id_a", "id_b"], ignore_index=True)
    return joined, _table(drawn, pairs.review, kind="review")


def _table(drawn: pd.DataFrame, pairs: Pairs, *, kind: str) -> pd.DataFrame:
    columns = ["id", "group", "label", "split"]
    a, b = (drawn[columns].iloc[end].reset_index(drop=True) for end in (pairs.first, pairs.second))
    # Cut to four digits, downwards: a pair just below a threshold must not seem to reach it.
    steps = np.floor(pairs.correlation * 10_000 + 1e-6)
    return pd.DataFrame(
        {
            "id_a": a["id"],
            "id_b": b["id"],
            "group": b["group"],
            "kind": kind,
            "mirrored": np.where(pairs.mirrored, "true", "false"),
            "correlation": steps / 10_000,
            "same_label": np.where(a["label"] == b["label"], "true", "false"),
            "split_a": a["split"],
            "split_b": b["split"],
        }
    )
