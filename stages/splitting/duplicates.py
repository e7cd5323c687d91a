"""Rows that show the same picture: rows with thumbnails -> pairs of duplicates.

Exact duplicates have equal pixels. Near ones correlate by `near_correlation` or more as thumbnails,
as they stand or mirrored; pairs from `review_correlation` on are for a person to look at.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.config import Duplicates
from stages.faces.fingerprint import THUMBNAIL_SIDE
from stages.records.schema import SPLITS, source_of
from stages.splitting.grouping import Positions, edges_by_value
from stages.splitting.similarity import Floats, Pairs, Thumbnails, similar_pairs

PAIR_COLUMNS = (
    "id_a", "id_b", "group", "kind", "mirrored", "correlation", "same_label", "split_a", "split_b",
)  # fmt: skip
_CORRELATION_STEPS = 10_000


@dataclass(frozen=True)
class Found:
    """Pairs of positions of rows. `exact` is a star: each picture's rows with its first one.

    `near` and `review` are between different pictures; a picture that several readings share is in
    them once for each reading, so that a reading's pairs do not depend on the others.
    """

    exact: Positions
    near: Pairs
    review: Pairs

    def edges(self) -> list[Positions]:
        """Edges (E, 2) that join duplicates, across all readings."""
        return [self.exact, np.stack([self.near.first, self.near.second], axis=1)]


def find(rows: pd.DataFrame, *, settings: Duplicates) -> Found:
    """Search all rows (with `thumbnail`, bytes) for duplicates, across all sources."""
    pictures = np.flatnonzero(~(reading_of(rows) + " " + rows["sha256"]).duplicated())
    thumbnails = _as_array(rows["thumbnail"].iloc[pictures])
    pairs = similar_pairs(thumbnails, at_least=settings.review_correlation)
    sha256 = rows["sha256"].to_numpy()[pictures]
    unlike = sha256[pairs.first] != sha256[pairs.second]
    is_near = pairs.correlation >= settings.near_correlation
    return Found(
        exact=edges_by_value(rows["sha256"]),
        near=_chosen(pairs, pictures, unlike & is_near),
        review=_chosen(pairs, pictures, unlike & ~is_near),
    )


def reading_of(rows: pd.DataFrame) -> pd.Series:
    """The dataset that each row was read from: expw for a row of expw_hq or expw_lq."""
    return source_of(rows["photo"])


def near_pictures(rows: pd.DataFrame, found: Found) -> pd.DataFrame:
    """Which pictures are near each other, by their hashes: `sha256` and `other`, both ways."""
    sha256 = rows["sha256"].to_numpy()
    one, other = sha256[found.near.first], sha256[found.near.second]
    pairs = {"sha256": np.concatenate([one, other]), "other": np.concatenate([other, one])}
    return pd.DataFrame(pairs, dtype="str").drop_duplicates(ignore_index=True)


def edges_within_readings(rows: pd.DataFrame, found: Found) -> list[Positions]:
    """Edges that join duplicates of one reading: no other source has a part in them."""
    reading = reading_of(rows)
    is_within = reading.to_numpy()[found.near.first] == reading.to_numpy()[found.near.second]
    near = np.stack([found.near.first, found.near.second], axis=1)[is_within]
    return [edges_by_value(reading + " " + rows["sha256"]), near]


def twin_splits(rows: pd.DataFrame, *, splits: pd.Series, near: pd.DataFrame) -> pd.Series:
    """The other splits in which a duplicate of each row stands, such as `train+val`, or nothing.

    A duplicate is a row of the same picture or of one that is near it: pairs, not chains of them.
    """
    picture, hashes = pd.factorize(rows["sha256"])
    one, other = (pd.Index(hashes).get_indexer(near[name]) for name in ("sha256", "other"))
    text = pd.Series("", rows.index, dtype="str")
    for name in SPLITS:
        stands = np.zeros(len(hashes), dtype=bool)
        stands[picture[(splits == name).to_numpy()]] = True
        near_stands = stands.copy()
        np.logical_or.at(near_stands, one, stands[other])
        is_twin = pd.Series(near_stands[picture], rows.index) & (splits != name)
        text = text.mask(is_twin, text.where(text == "", text + "+") + name)
    return text


def pair_tables(drawn: pd.DataFrame, found: Found) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The duplicates and the pairs for review, as tables of `PAIR_COLUMNS` for people.

    n exact copies make n - 1 pairs, with the first id. The splits are those before anything is
    excluded. `same_label` is `true` or `false`: copies that disagree measure the noise of labels.
    """
    first, second = found.exact.T
    exact = Pairs(first, second, np.ones(len(first)), np.zeros(len(first), dtype=bool))
    duplicates = [_table(drawn, exact, kind="exact"), _table(drawn, found.near, kind="near")]
    joined = pd.concat(duplicates).sort_values(["id_a", "id_b"], ignore_index=True)
    return joined, _table(drawn, found.review, kind="review")


def _as_array(thumbnails: pd.Series) -> Thumbnails:
    joined = np.frombuffer(b"".join(thumbnails), np.uint8)
    return joined.reshape(len(thumbnails), THUMBNAIL_SIDE**2)


def _chosen(pairs: Pairs, pictures: Positions, chosen: npt.NDArray[np.bool_]) -> Pairs:
    return Pairs(
        pictures[pairs.first[chosen]],
        pictures[pairs.second[chosen]],
        pairs.correlation[chosen],
        pairs.mirrored[chosen],
    )


def _table(drawn: pd.DataFrame, pairs: Pairs, *, kind: str) -> pd.DataFrame:
    columns = ["id", "group", "label", "split"]
    one = drawn[columns].iloc[pairs.first].reset_index(drop=True)
    other = drawn[columns].iloc[pairs.second].reset_index(drop=True)
    words = {True: "true", False: "false"}
    return pd.DataFrame(
        {
            "id_a": one["id"],
            "id_b": other["id"],
            "group": other["group"],
            "kind": kind,
            "mirrored": pd.Series(pairs.mirrored).map(words),
            "correlation": _cut(pairs.correlation),
            "same_label": (one["label"] == other["label"]).map(words),
            "split_a": one["split"],
            "split_b": other["split"],
        },
        columns=list(PAIR_COLUMNS),
    )


def _cut(correlation: Floats) -> Floats:
    """To four digits, downwards: a pair just below a threshold must not seem to reach it."""
    return np.asarray(np.floor(correlation * _CORRELATION_STEPS + 1e-6) / _CORRELATION_STEPS)
