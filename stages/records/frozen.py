"""Faces -> the frozen manifest: rows, groups, splits, what left and why, and the views."""

from dataclasses import dataclass

import pandas as pd

from stages.config import Manifest
from stages.records.duplicates import copy_pairs
from stages.records.grouping import group_keys
from stages.records.rows import manifest_rows
from stages.records.schema import COLUMNS
from stages.records.splits import EXCLUDED_COLUMNS, carve, cross_split_rows, share_no_group
from stages.records.views import require_classes, select_view
from stages.runtime.errors import UserError

MANIFEST_NAME = "classification_manifest"
_TAKEN_NAMES = (MANIFEST_NAME, "excluded", "duplicates", "index")


@dataclass(frozen=True)
class FrozenManifest:
    """Who is in which split. Under `copies: drop_from_train`, splits of `rows` share no group.

    `drawn` holds every row, with `official` (the dataset's split, missing where it has none) beside
    `split` (after carving); `rows` and `excluded` part them. `views` are selections of `rows`.
    """

    drawn: pd.DataFrame
    rows: pd.DataFrame
    excluded: pd.DataFrame
    duplicates: pd.DataFrame
    views: dict[str, pd.DataFrame]


def freeze(faces: pd.DataFrame, *, section: Manifest, seed: int) -> FrozenManifest:
    """Decide every split, once. The order of `faces` plays no part.

    Raises:
        UserError: for repeated ids, a class without train rows, or a view that cannot be.
    """
    drawn = _drawn(faces, section=section, seed=seed)
    excluded = pd.DataFrame(columns=list(EXCLUDED_COLUMNS), dtype="str")
    if section.copies == "drop_from_train":
        excluded = cross_split_rows(drawn)
    rows = drawn.drop(index=excluded.index)[list(COLUMNS)].reset_index(drop=True)
    assert section.copies == "report_only" or share_no_group(rows), "a group stands in two splits"
    require_classes(rows[rows["split"] == "train"], key="manifest")
    return FrozenManifest(
        drawn=drawn,
        rows=rows,
        excluded=excluded,
        duplicates=copy_pairs(drawn),
        views=_views(rows, section),
    )


def _drawn(faces: pd.DataFrame, *, section: Manifest, seed: int) -> pd.DataFrame:
    rows = manifest_rows(faces)
    rows = rows.assign(group=group_keys(rows), official=rows["split"])
    shares = {"val_share": section.val_share, "test_share": section.test_share}
    return rows.assign(split=carve(rows, seed=seed, **shares))


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
