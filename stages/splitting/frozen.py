"""Faces of all sources -> the frozen manifest: rows, groups, splits, views -> a folder of CSVs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd

from stages.config import Manifest
from stages.faces.shards import read_faces, read_index, source_folders
from stages.records.schema import COLUMNS, SHARE_COLUMNS, source_of, write_manifest
from stages.records.views import require_classes, select
from stages.runtime.errors import UserError
from stages.runtime.files import published_folder, write_json
from stages.runtime.tables import write_csv
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
# Enough for any number of voters, and short in the file.
_SHARE_DIGITS = 6
# Shards keep float32: as float64 its 0.7 would be 0.699999988 and fail `min_confidence: 0.7`.
_CONFIDENCE_DIGITS = 4


@dataclass(frozen=True)
class FrozenManifest:
    """The split of every row. Unless `policy: report_only`, splits of `rows` share no group.

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


class FileEntry(TypedDict):
    """Entry of a CSV in `index.json`; `gate` marks a view scored beside the in-domain rows."""

    sha256: str
    rows: int
    gate: bool


def read_all_faces(standardized: Path) -> pd.DataFrame:
    """Read what the manifest needs to know of every face.

    The number of faces is held against each index. Hashing the shards again would cost minutes at
    full size and say nothing new: DVC has hashed them.

    Raises:
        UserError: if the shards hold more or fewer faces than their indexes say.
    """
    faces = read_faces(standardized, FACE_COLUMNS)
    expected = {path.name: int(read_index(path)["faces"]) for path in source_folders(standardized)}
    if sum(expected.values()) != len(faces):
        raise UserError(
            f"{standardized.name}: faces of the indexes: expected {expected}, "
            f"got {len(faces)} in all shards together; run the standardize stage"
        )
    return faces


def manifest_rows(faces: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of their ids, with `source` and the crowd's shares.

    `split` stays the dataset's own, missing where it has none.

    Raises:
        UserError: if an id occurs twice.
    """
    repeated = faces.loc[faces["id"].duplicated(), "id"].drop_duplicates().sort_values()
    if len(repeated):
        raise UserError(
            f"standardized: id: expected each id once, got {len(repeated)} ids several times, "
            f"such as {repeated.head(5).to_list()}"
        )
    # Votes over their sum; NaN where there are no votes.
    shares = np.full((len(faces), len(SHARE_COLUMNS)), np.nan)
    present = faces["votes"].notna().to_numpy()
    if present.any():
        counts = np.stack(faces.loc[present, "votes"].to_list()).astype(np.float64)
        sums = counts.sum(axis=1, keepdims=True)
        shares[present] = np.divide(counts, sums, out=np.full_like(counts, np.nan), where=sums > 0)
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
        group=group_keys(rows["photo"], pairs.edges()),
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
) -> dict[str, FileEntry]:
    """Write all CSVs and `index.json`; `target` is replaced whole, at the end, or not at all.

    Returns:
        The entry of each CSV, by file name.
    """
    entries: dict[str, FileEntry] = {}
    tables = {
        "excluded": frozen.excluded,
        "duplicates": frozen.duplicates,
        "review": frozen.review,
        "warnings": warnings,
    }
    with published_folder(target) as folder:
        for name, rows in {MANIFEST_NAME: frozen.rows, **frozen.views}.items():
            gate = name in section.views and section.views[name].gate
            digest = write_manifest(folder / f"{name}.csv", rows)
            entries[f"{name}.csv"] = {"sha256": digest, "rows": len(rows), "gate": gate}
        for name, table in tables.items():
            digest = write_csv(folder / f"{name}.csv", table)
            entries[f"{name}.csv"] = {"sha256": digest, "rows": len(table), "gate": False}
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
        views[name] = select(
            rows,
            view,
            key=f"manifest.views.{name}",
            source_groups=section.source_groups,
            splits=view.splits,
        )
    return views
