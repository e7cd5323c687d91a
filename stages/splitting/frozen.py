"""Faces -> the frozen manifest: rows, groups, splits, what left and why, and the views."""

from dataclasses import dataclass

import pandas as pd

from stages.config import Manifest
from stages.records.schema import COLUMNS
from stages.records.views import require_classes, select_view
from stages.runtime.errors import UserError
from stages.splitting.duplicates import (
    Found,
    edges_within_readings,
    find,
    near_pictures,
    pair_tables,
    twin_splits,
)
from stages.splitting.grouping import group_keys
from stages.splitting.rows import manifest_rows
from stages.splitting.splits import (
    EXCLUDED_COLUMNS,
    carve,
    cross_split_rows,
    share_no_group,
    spare_copies,
)

MANIFEST_NAME = "classification_manifest"
_TAKEN_NAMES = (MANIFEST_NAME, "excluded", "duplicates", "review", "warnings", "index")


@dataclass(frozen=True)
class FrozenManifest:
    """Who is in which split. Unless `policy: report_only`, splits of `rows` share no group.

    `drawn` holds every row; `rows` and `excluded` part it. `official` is the dataset's own split,
    missing where it has none; `twin_splits` the other splits in which a duplicate of the row stood
    before any left. `duplicates` and `review` are pairs of `drawn`, `views` selections of `rows`.
    """

    drawn: pd.DataFrame
    rows: pd.DataFrame
    excluded: pd.DataFrame
    duplicates: pd.DataFrame
    review: pd.DataFrame
    views: dict[str, pd.DataFrame]


def freeze(faces: pd.DataFrame, *, section: Manifest, seed: int) -> FrozenManifest:
    """Decide every split, once. The order of `faces` plays no part.

    Raises:
        UserError: for repeated ids, a class without train rows, or a view that cannot be.
    """
    rows = manifest_rows(faces)
    found = find(rows, settings=section.duplicates)
    near = near_pictures(rows, found)
    drawn = _drawn(rows, found, near=near, section=section, seed=seed)
    excluded = _excluded(drawn, near=near, policy=section.duplicates.policy)
    kept = drawn.drop(index=excluded.index).reset_index(drop=True)
    assert section.duplicates.policy == "report_only" or share_no_group(kept), "a group is torn"
    _require_train_rows(kept, excluded=excluded)
    duplicates, review = pair_tables(drawn, found)
    return FrozenManifest(
        drawn=drawn,
        rows=kept,
        excluded=excluded.sort_index(),
        duplicates=duplicates,
        review=review,
        views=_views(kept, section),
    )


def _drawn(
    rows: pd.DataFrame, found: Found, *, near: pd.DataFrame, section: Manifest, seed: int
) -> pd.DataFrame:
    split = carve(
        rows,
        groups=group_keys(rows["photo"], edges_within_readings(rows, found)),
        seed=seed,
        val_share=section.val_share,
        test_share=section.test_share,
    )
    drawn = rows.assign(
        official=rows["split"],
        split=split,
        twin_splits=twin_splits(rows, splits=split, near=near),
        group=group_keys(rows["photo"], found.edges()),
    )
    return drawn[list(COLUMNS)]


def _excluded(drawn: pd.DataFrame, *, near: pd.DataFrame, policy: str) -> pd.DataFrame:
    if policy == "report_only":
        return pd.DataFrame(columns=list(EXCLUDED_COLUMNS), dtype="str")
    if policy == "drop_from_train":
        return cross_split_rows(drawn, near=near)
    spare = spare_copies(drawn, near=near)
    return pd.concat([spare, cross_split_rows(drawn.drop(index=spare.index), near=near)])


def _require_train_rows(kept: pd.DataFrame, *, excluded: pd.DataFrame) -> None:
    try:
        require_classes(kept[kept["split"] == "train"], key="manifest")
    except UserError as error:
        left = excluded["reason"].value_counts().to_dict()
        raise UserError(f"{error}; left out: {left}, see manifest.duplicates") from None


def _views(rows: pd.DataFrame, section: Manifest) -> dict[str, pd.DataFrame]:
    taken = list(_TAKEN_NAMES)
    for name in section.views:
        # Without case, because Windows would write both views into one file.
        if name.lower() in taken:
            raise UserError(
                f"params.yaml: manifest.views.{name}: expected a name of its own (whatever its "
                f"case), got one of {taken}"
            )
        taken.append(name.lower())
    groups = section.source_groups
    return {
        name: select_view(rows, view, key=f"manifest.views.{name}", source_groups=groups)
        for name, view in section.views.items()
    }
