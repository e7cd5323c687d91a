"""Which split a row belongs to, and which rows leave so that no group stands in two of them."""

import numpy as np
import pandas as pd

from stages.runtime.seed import derive_seed

EXCLUDED_COLUMNS = ("id", "source", "label", "split", "reason", "detail")
# The split that keeps its rows first: a test row is never given up for another one.
_KEEPERS = ("test", "val")
_SEED_RANGE = 2.0**63


def carve(rows: pd.DataFrame, *, seed: int, val_share: float, test_share: float) -> pd.Series:
    """The split of each row: the dataset's own, else carved out of train by group.

    Where a source has no val (or test) rows, its train and unsplit rows go there in about the given
    share of groups. The draw is a hash of (seed, group), so rows outside a group do not move it.
    A group is carved only if each of its rows may go there: carving tears no group apart. What is
    not carved is train. Limit: a row that joins a group can change its name (see `group_keys`) or
    be one that may not go, and then the group's other rows move with it.
    """
    official, groups = rows["split"], rows["group"]
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


def cross_split_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows to leave out so that each group stands in one split, as a table of `EXCLUDED_COLUMNS`.

    A group that touches test keeps its test rows, else one that touches val keeps its val rows.
    `reason` is `twin_in_<split>` for a row with the same pixels there, else `group_in_<split>`
    (another face of the photo, or a row linked through others); `detail` is the row it yields to.
    The index is that of `rows`.
    """
    keeper = keeping_split(rows)
    kept = rows[rows["split"] == keeper].sort_values("id")
    leaving = rows[rows["split"] != keeper]
    twin = leaving["sha256"].map(kept.drop_duplicates("sha256").set_index("sha256")["id"])
    linked = leaving["group"].map(kept.drop_duplicates("group").set_index("group")["id"])
    kind = np.where(twin.notna(), "twin_in_", "group_in_")
    reason = pd.Series(kind, leaving.index, dtype="str") + keeper[leaving.index]
    return leaving.assign(reason=reason, detail=twin.fillna(linked))[list(EXCLUDED_COLUMNS)]


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
