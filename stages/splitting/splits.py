"""Rows and edges between them -> groups; groups -> splits, and rows that leave.

A group must not be torn apart: it is a connected component over edges between rows. Rows leave so
that no group stands in two splits.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.runtime.seed import derive_seed

EXCLUDED_COLUMNS = ("id", "source", "label", "split", "reason", "detail")
# The split that keeps its rows first: a test row is never given up for another one.
_KEEPERS = ("test", "val")
_SEED_RANGE = 2.0**63

Positions = npt.NDArray[np.int64]


def group_keys(photos: pd.Series, edges: Sequence[Positions]) -> pd.Series:
    """The group of each row: faces of one photo and rows joined by edges, transitively.

    A group is called by the smallest photo key in it, which no other group can hold. So the name
    does not depend on the order of rows nor on rows outside; it changes only when a row joins the
    group whose photo sorts before all others, or when two groups grow together.
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
    """Edges (E, 2) that join each row with the first row of the same value."""
    codes, _ = pd.factorize(values)
    _, first = np.unique(codes, return_index=True)
    edges = np.stack([first[codes], np.arange(len(codes))], axis=1)
    return np.asarray(edges[edges[:, 0] != edges[:, 1]], dtype=np.int64)


def carve(
    rows: pd.DataFrame, *, groups: pd.Series, seed: int, val_share: float, test_share: float
) -> pd.Series:
    """Decide the split of each row: the dataset's own, else carved out of train by group.

    Where a source has no val (or test) rows, its train and unsplit rows go there in about the given
    share of groups, and so in about that share of each class. The draw is a hash of (seed, group):
    rows outside a group do not move it, so `groups` that know nothing of other sources (see
    `edges_within_readings`) make a row's split a matter of its own dataset. A group is carved only
    if each of its rows may go there: carving tears no group apart. What is not carved is train.
    Limit: a row that joins a group can change its name (see `group_keys`) or be one that may not
    go, and then the group's other rows move with it. A source whose first official val (or test)
    row is added is carved no more.
    """
    official = rows["split"]
    val_from, val_to = test_share, test_share + val_share
    movable = official.isna() | (official == "train")
    codes, keys = pd.factorize(groups)
    numbers = [derive_seed(seed, "split", key) / _SEED_RANGE for key in keys]
    draw = pd.Series(np.asarray(numbers, dtype=np.float64)[codes], groups.index)
    wishes = {"test": draw < val_from, "val": (draw >= val_from) & (draw < val_to)}
    split = official.fillna("train")
    for name, wish in wishes.items():
        lacks = ~rows["source"].isin(rows.loc[official == name, "source"].unique())
        may_go = (official == name) | (movable & lacks)
        carved = movable & wish & may_go.groupby(groups).transform("all")
        split = split.mask(carved, name)
    return split


def spare_copies(rows: pd.DataFrame, *, near: pd.DataFrame) -> pd.DataFrame:
    """Rows that repeat a row which stays, as a table of `EXCLUDED_COLUMNS`.

    Test rows are kept first, then val rows, then train rows, each in the order of their ids; a row
    is spare if one of its own picture, or of one that is near it (see `near_pictures`), is kept
    already. `detail` is that row. The index is that of `rows`.
    """
    rank = rows["split"].map({name: place for place, name in enumerate((*_KEEPERS, "train"))})
    first = rows.assign(rank=rank).sort_values(["rank", "id"]).drop_duplicates("sha256")
    neighbours = near.groupby("sha256")["other"].agg(list).to_dict()
    kept: dict[str, str] = {}
    stays_for: dict[str, str] = {}
    for sha256, id_ in zip(first["sha256"], first["id"], strict=True):
        near_kept = (kept[other] for other in neighbours.get(sha256, ()) if other in kept)
        stays = next(near_kept, None)
        stays_for[sha256] = stays or id_
        if stays is None:
            kept[sha256] = id_
    detail = rows["sha256"].map(stays_for)
    spare = rows[detail != rows["id"]]
    return spare.assign(reason="copy_of_kept", detail=detail)[list(EXCLUDED_COLUMNS)]


def cross_split_rows(rows: pd.DataFrame, *, near: pd.DataFrame) -> pd.DataFrame:
    """Rows to leave out so that each group stands in one split, as a table of `EXCLUDED_COLUMNS`.

    A group that touches test keeps its test rows, else one that touches val keeps its val rows.
    `reason` is `twin_in_<split>` for a row with the same pixels there, `near_twin_in_<split>` for
    one whose picture is near one there (see `near_pictures`), else `group_in_<split>` (another face
    of the photo, or a row linked through others); `detail` is the row it yields to. The index is
    that of `rows`.
    """
    keeper = pd.Series("train", rows.index, dtype="str")
    for name in reversed(_KEEPERS):
        touches = (rows["split"] == name).groupby(rows["group"]).transform("any")
        keeper = keeper.mask(touches, name)
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
