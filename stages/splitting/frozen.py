"""Faces of all sources -> the frozen manifest: rows, groups, splits, views -> a folder of CSVs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.config import Manifest
from stages.faces.shards import read_faces, read_index, source_folders
from stages.records.schema import COLUMNS, SHARE_COLUMNS, source_of, write_manifest
from stages.records.views import require_classes, select
from stages.runtime.errors import UserError
from stages.runtime.files import published_folder, write_csv, write_json
from stages.splitting.duplicates import (
    edges_within_readings,
    find_duplicates,
    near_pictures,
    pair_tables,
    twin_splits,
)
from stages.splitting.splits import (
    EXCLUDED_COLUMNS,
    carve,
    cross_split_rows,
    group_keys,
    share_no_group,
    spare_copies,
)

FACE_COLUMNS = (
    "id",
    "label",
    "votes",
    "split",
    "photo",
    "native_px",
    "confidence",
    "sha256",
    "thumbnail",
)
MANIFEST_NAME = "classification_manifest"

_TAKEN_NAMES = (MANIFEST_NAME, "excluded", "duplicates", "review", "warnings", "index")
_SHARE_DIGITS = 6  # enough for any number of voters, and short in the file
# Shards keep float32: as float64 its 0.7 would be 0.699999988 and fail `min_confidence: 0.7`.
_CONFIDENCE_DIGITS = 4


@dataclass(frozen=True)
class FrozenManifest:
    """The split of every row. Unless `policy: report_only`, splits of `rows` share no group.

    `drawn` holds every row; `rows` and `excluded` part it. `duplicates` and `review` are pairs of
    `drawn`, `views` selections of `rows`.
    """

    drawn: pd.DataFrame
    rows: pd.DataFrame
    excluded: pd.DataFrame
    duplicates: pd.DataFrame
    review: pd.DataFrame
    views: dict[str, pd.DataFrame]


def read_all_faces(standardized: Path) -> pd.DataFrame:
    """Read what the manifest needs to know of every face.

    Raises:
        UserError: if the shards hold more or fewer faces than their indexes say.
    """
    faces = read_faces(standardized, FACE_COLUMNS)
    expected = {path.name: read_index(path)["faces"] for path in source_folders(standardized)}
    if sum(expected.values()) != len(faces):
        raise UserError(
            f"{standardized.name}: faces of the indexes: expected {expected}, "
            f"got {len(faces)} in all shards together; run the standardize stage"
        )
    return faces


def manifest_rows(faces: pd.DataFrame) -> pd.DataFrame:
    """Build rows in the order of their ids, with `source` and the crowd's shares.

    `split` stays the dataset's own, missing where it has none.

    Raises:
        UserError: if an id occurs twice.
    """
    if repeated := sorted({*faces.loc[faces["id"].duplicated(), "id"]}):
        raise UserError(
            f"standardized: id: expected each id once, got {len(repeated)} ids several times, "
            f"such as {repeated[:5]}"
        )
    # Votes over their sum; NaN where there are no votes.
    shares = np.full((len(faces), len(SHARE_COLUMNS)), np.nan)
    present = faces["votes"].notna().to_numpy()
    if present.any():
        counts = np.stack(faces.loc[present, "votes"].to_list()).astype(np.float64)
        with np.errstate(invalid="ignore"):
            shares[present] = counts / counts.sum(axis=1, keepdims=True)
    rows = faces.drop(columns="votes")
    rows[list(SHARE_COLUMNS)] = shares.round(_SHARE_DIGITS)
    rows["native_px"] = rows["native_px"].astype("int64")
    rows["confidence"] = rows["confidence"].astype("float64").round(_CONFIDENCE_DIGITS)
    rows["split"] = rows["split"].astype("str")
    rows["source"] = source_of(rows["id"])
    return rows.sort_values("id", ignore_index=True)


def freeze(faces: pd.DataFrame, *, section: Manifest, seed: int) -> FrozenManifest:
    """Decide every split, once. The order of `faces` plays no part.

    Raises:
        UserError: for repeated ids, a class without train rows, or a view that cannot be.
    """
    policy = section.duplicates.policy
    rows = manifest_rows(faces)
    pairs = find_duplicates(rows, settings=section.duplicates)
    near = near_pictures(rows, pairs)
    split = carve(
        rows,
        groups=group_keys(rows["photo"], edges_within_readings(rows, pairs)),
        seed=seed,
        val_share=section.val_share,
        test_share=section.test_share,
    )
    drawn = rows.assign(
        official=rows["split"],
        split=split,
        twin_splits=twin_splits(rows, splits=split, near=near),
        group=group_keys(rows["photo"], [pairs.exact, pairs.near.edges()]),
    )[list(COLUMNS)]
    excluded = _excluded(drawn, near=near, policy=policy)
    kept = drawn.drop(index=excluded.index).reset_index(drop=True)
    assert policy == "report_only" or share_no_group(kept), "a group is torn"
    try:
        require_classes(kept[kept["split"] == "train"], key="manifest")
    except UserError as error:
        left = excluded["reason"].value_counts().to_dict()
        raise UserError(f"{error}; left out: {left}, see manifest.duplicates") from None
    duplicates, review = pair_tables(drawn, pairs)
    return FrozenManifest(
        drawn=drawn,
        rows=kept,
        excluded=excluded.sort_index(),
        duplicates=duplicates,
        review=review,
        views=_views(kept, section),
    )


def publish(
    target: Path, frozen: FrozenManifest, *, warnings: pd.DataFrame, section: Manifest
) -> dict[str, dict[str, object]]:
    """Write all CSVs and `index.json`, and return its entries: `sha256`, `rows`, `gate` by file.

    `target` is replaced whole, at the end, or not at all.
    """
    entries: dict[str, dict[str, object]] = {}
    selections = {MANIFEST_NAME: frozen.rows, **frozen.views}
    tables = {
        "excluded": frozen.excluded,
        "duplicates": frozen.duplicates,
        "review": frozen.review,
        "warnings": warnings,
    }
    with published_folder(target) as folder:
        for name, table in {**selections, **tables}.items():
            write = write_manifest if name in selections else write_csv
            digest = write(folder / f"{name}.csv", table)
            gate = name in section.views and section.views[name].gate
            entries[f"{name}.csv"] = {"sha256": digest, "rows": len(table), "gate": gate}
        groups = {name: list(members) for name, members in section.source_groups.items()}
        write_json(folder / "index.json", {"source_groups": groups, "files": entries})
    return entries


def _excluded(drawn: pd.DataFrame, *, near: pd.DataFrame, policy: str) -> pd.DataFrame:
    if policy == "report_only":
        return pd.DataFrame(columns=list(EXCLUDED_COLUMNS), dtype="str")
    if policy == "drop_from_train":
        return cross_split_rows(drawn, near=near)
    spare = spare_copies(drawn, near=near)
    return pd.concat([spare, cross_split_rows(drawn.drop(index=spare.index), near=near)])


def _views(rows: pd.DataFrame, section: Manifest) -> dict[str, pd.DataFrame]:
    taken, views = list(_TAKEN_NAMES), {}
    for name, view in section.views.items():
        # Without case, because Windows would write both views into one file.
        if name.lower() in taken:
            raise UserError(
                f"params.yaml: manifest.views.{name}: expected a name of its own (whatever its "
                f"case), got one of {taken}"
            )
        taken.append(name.lower())
        groups, key = section.source_groups, f"manifest.views.{name}"
        views[name] = select(rows, view, key=key, source_groups=groups, splits=view.splits)
    return views
