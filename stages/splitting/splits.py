"""Which split a row belongs to, and which rows leave so that no group stands in two of them."""

import numpy as np
import pandas as pd

from stages.runtime.seed import derive_seed

EXCLUDED_COLUMNS = ("id", "source", "label", "split", "reason", "detail")
# The split that keeps its rows first: a test row is never given up for another one.
_KEEPERS = ("test", "val")
_SEED_RANGE = 2.0**63


def carve(
    rows: pd.DataFrame, *, groups: pd.Series, seed: int, val_share: float, test_share: float
) -> pd.Series:
    """The split of each row: the dataset's own, else carved out of train by group.

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
    draw = _draws(groups, seed=seed)
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
        stays = next((kept[one] for one in neighbours.get(sha256, ()) if one in kept), None)
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
    keeper = keeping_split(rows)
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


def keeping_split(rows: pd.DataFrame) -> pd.Series:
    """The one split in which each row's group may stay."""
    keeper = pd.Series("train", rows.index, dtype="str")
    for name in reversed(_KEEPERS):
        touches = (rows["split"] == name).groupby(rows["group"]).transform("any")
        keeper = keeper.mask(touches, name)
    return keeper


def share_no_group(rows: pd.DataFrame) -> bool:
    """Whether no group stands in two splits."""
    return bool(rows.drop_duplicates(["group", "split"])["group"].is_unique)


def _draws(groups: pd.Series, *, seed: int) -> pd.Series:
    """A number from 0 to 1 for each row, the same for all rows of a group."""
    codes, keys = pd.factorize(groups)
    numbers = [derive_seed(seed, "split", key) / _SEED_RANGE for key in keys]
    return pd.Series(np.asarray(numbers, dtype=np.float64)[codes], groups.index)
