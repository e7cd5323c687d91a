"""A manifest or a view, of this project or another -> rows, and their faces as model input."""

from pathlib import Path

import pandas as pd
import torch

from stages.config import Preprocess
from stages.faces.store import FaceStore
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.dataset import FaceDataset
from stages.loading.loader import EvalLoader
from stages.records.schema import SHARE_COLUMNS, read_manifest, targets_of
from stages.runtime.errors import UserError

_BATCH = 64


def read_rows(path: Path) -> pd.DataFrame:
    """Read the rows of a manifest or a view.

    Raises:
        UserError: if its class order is another, it is missing, malformed or empty.
    """
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            columns = file.readline().strip().split(",")
        order = [name for name in columns if name in SHARE_COLUMNS]
        if order and order != list(SHARE_COLUMNS):
            raise UserError(
                f"{path.name}: class order: expected {list(SHARE_COLUMNS)}, got {order}"
            )
    rows = read_manifest(path)
    if rows.empty:
        raise UserError(f"{path.name}: expected rows, got none")
    return rows


def faces_of(
    rows: pd.DataFrame,
    *,
    standardized: Path,
    image_size: int,
    preprocess: Preprocess,
    workers: int,
    device: torch.device,
) -> EvalLoader:
    """The faces of the rows in batches, in their order, as a model wants them.

    Raises:
        UserError: for all rows without an image at once.
    """
    store = FaceStore(standardized)
    dataset = FaceDataset(
        store,
        positions=store.locate(rows["id"].tolist()),
        targets=targets_of(rows),
        image_size=image_size,
        preprocess=preprocess,
        augmentation=NO_AUGMENTATION,
        seed=0,
    )
    return EvalLoader(dataset, batch_size=_BATCH, workers=workers, device=device)
