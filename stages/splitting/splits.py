"""Rows and edges between them -> groups; groups -> splits, and rows that leave.

A group must not be torn apart: it is a connected component over edges between rows. Rows leave so
that no group stands in two splits.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.runtime.seed import derive_seed
from stages.splitting.similarity import Positions

EXCLUDED_COLUMNS = ("id", "source", "label", "split", "reason", "detail")
# The split that keeps its rows first: a test row is never given up for another one.
_KEEPERS = ("test", "val", "train")


def group_keys(photos: pd.Series, edges: Sequence[Positions]) -> pd.Series:
    """Group faces of one photo and rows joined by edges, transitively; return each row's group.

    A group is called by the smallest photo key in it, which no other group can hold. So the name
    does not depend on the order of rows nor on rows outside.
    """
    joined = np.concatenate([edges_by_value(photos), *edges])
    weights, num_rows = np.ones(len(joined), dtype=np.int8), len(photos)
    graph = coo_array((weights, (joined[:, 0], joined[:, 1])), shape=(num_rows, num_rows))
    component = connected_components(graph, directed=False)[1]
    ranks, names = pd.factorize(photos, sort=True)
    smallest = np.full(num_rows, num_rows, dtype=np.int64)
    np.minimum.at(smallest, component, ranks)
    keys = np.asarray(names, dtype=object)[smallest[component]]
    return pd.Series(keys, photos.index, dtype="str")


def edges_by_value(values: pd.Series) -> Positions:
    """Join each row with the first row of the same value: edges (E, 2)."""
    codes, _ = pd.factorize(values)
    _, first = np.unique(codes, return_index=True)
    edges = np.stack([first[codes], np.arange(len(codes))], axis=1)
    return np.asarray(edges[edges[:, 0] != edges[:, 1]], dtype=np.int64)


def carve(
    rows: pd.DataFrame, *, groups: pd.Series, seed: int, val_share: float, test_share: float
) -> pd.Series:
    """Decide the split of each row: the dataset's own, else carved out of train by group.

    Where a source has no val (or test) rows, its train and unsplit rows go there in about the given
    share of groups, and so of each class. The draw is a hash of (seed, group): with `groups` that
    know nothing of other sources (see `edges_within_readings`), a row's split is a matter of its
    own dataset. Carving tears no group apart: each of its rows must be free to go.
    Limit: a row that joins a group can change its name (see `group_keys`) or be one that may not
    go, and then the group's other rows move with it.
    """
    official = rows["split"]
    movable = official.isna() | (official == "train")
    draw = groups.map({key: derive_seed(seed, "split", key) / 2.0**63 for key in groups.unique()})
    wishes = {"test": draw < test_share}
    wishes["val"] = ~wishes["test"] & (draw < test_share + val_share)
    split = official.fillna("train")
    for name, wish in wishes.items():
        lacks = ~rows["source"].isin(rows.loc[official == name, "source"].unique())
        may_go = (official == name) | (movable & lacks)
        carved = movable & wish & may_go.groupby(groups).transform("all")
        split = split.mask(carved, name)
    return split


def spare_copies(rows: pd.DataFrame, *, near: pd.DataFrame) -> pd.DataFrame:
    """List rows that repeat a row which stays, in a table of `EXCLUDED_COLUMNS` by their index.

    Test rows are kept first, then val rows, then train rows, each in the order of their ids; a row
    is spare if one of its own picture, or of one near it (see `near_pictures`), is kept already.
    `detail` is that row.
    """
    rank = rows["split"].map(_KEEPERS.index)
    first = rows.assign(rank=rank).sort_values(["rank", "id"]).drop_duplicates("sha256")
    neighbours = near.groupby("sha256")["other"].agg(list).to_dict()
    kept: dict[str, str] = {}
    stays_for: dict[str, str] = {}
    for sha256, id_ in zip(first["sha256"], first["id"], strict=True):
        near_kept = (kept[other] for other in neighbours.get(sha256, ()) if other in kept)
        stays_for[sha256] = next(near_kept, id_)
        if stays_for[sha256] == id_:
            kept[sha256] = id_
    detail = rows["sha256"].map(stays_for)
    spare = rows[detail != rows["id"]]
    return spare.assign(reason="copy_of_kept", detail=detail)[list(EXCLUDED_COLUMNS)]


def cross_split_rows(rows: pd.DataFrame, *, near: pd.DataFrame) -> pd.DataFrame:
    """List rows that leave so that each group stands in one split, as `spare_copies` does.

    A group that touches test keeps its test rows, else one that touches val keeps its val rows.
    `reason` is `twin_in_<split>` for a row with the same pixels there, `near_twin_in_<split>` for
    one whose picture is near one there (see `near_pictures`), else `group_in_<split>` (another face
    of the photo, or a row linked through others); `detail` is the row it yields to.
    """
    rank = rows["split"].map(_KEEPERS.index).astype("int64")
    keeper = rank.groupby(rows["group"]).transform("min").map(dict(enumerate(_KEEPERS)))
    kept = rows[rows["split"] == keeper].sort_values("id")
    leaving = rows[rows["split"] != keeper]
    first_of = {key: kept.drop_duplicates(key).set_index(key)["id"] for key in ("group", "sha256")}
    beside = near.assign(id=near["other"].map(first_of["sha256"])).dropna(subset="id")
    stays = {
        "group_in_": leaving["group"].map(first_of["group"]),
        "near_twin_in_": leaving["sha256"].map(beside.groupby("sha256")["id"].min()),
        "twin_in_": leaving["sha256"].map(first_of["sha256"]),
    }
    reason, detail = pd.Series(index=leaving.index, dtype="str"), leaving["id"]
    for kind, id_ in stays.items():
        detail = detail.mask(id_.notna(), id_)
        reason = reason.mask(id_.notna(), kind + keeper[leaving.index])
    return leaving.assign(reason=reason, detail=detail)[list(EXCLUDED_COLUMNS)]


def share_no_group(rows: pd.DataFrame) -> bool:
    """Tell if no group stands in two splits."""
    return bool(rows.drop_duplicates(["group", "split"])["group"].is_unique)
