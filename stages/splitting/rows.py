"""Faces of all sources -> rows of the manifest that are not yet grouped or split."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.faces.shards import read_faces, read_index, source_folders
from stages.records.schema import SHARE_COLUMNS, source_of
from stages.runtime.errors import UserError

FACE_COLUMNS = (
    "id", "label", "votes", "split", "photo", "native_px", "confidence", "sha256", "thumbnail",
)  # fmt: skip
# Enough for any number of voters, and short in the file.
_SHARE_DIGITS = 6
# Shards keep float32: as float64 its 0.7 would be 0.699999988 and fail `min_confidence: 0.7`.
_CONFIDENCE_DIGITS = 4


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
    rows = faces.drop(columns="votes").assign(**_crowd_shares(faces["votes"]))
    rows["native_px"] = rows["native_px"].astype("int64")
    rows["confidence"] = rows["confidence"].astype("float64").round(_CONFIDENCE_DIGITS)
    rows["split"] = rows["split"].astype("str")
    rows["source"] = source_of(rows["id"])
    _refuse_repeated(rows["id"])
    return rows.sort_values("id", ignore_index=True)


def _crowd_shares(votes: pd.Series) -> dict[str, Any]:
    """Votes over their sum, as seven columns; NaN where there are no votes."""
    shares = np.full((len(votes), len(SHARE_COLUMNS)), np.nan)
    present = votes.notna().to_numpy()
    if present.any():
        counts = np.stack(votes[present].to_list()).astype(np.float64)
        sums = counts.sum(axis=1, keepdims=True)
        shares[present] = np.divide(counts, sums, out=np.full_like(counts, np.nan), where=sums > 0)
    return dict(zip(SHARE_COLUMNS, shares.round(_SHARE_DIGITS).T, strict=True))


def _refuse_repeated(ids: pd.Series) -> None:
    repeated = ids[ids.duplicated()].drop_duplicates().sort_values()
    if len(repeated):
        raise UserError(
            f"standardized: id: expected each id once, got {len(repeated)} ids several times, "
            f"such as {repeated.head(5).to_list()}"
        )
