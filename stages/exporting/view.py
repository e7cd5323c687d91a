"""Rows of a view -> model input and logits, prepared as the teacher's card says."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stages.config import Preprocess
from stages.evaluation.metrics import Floats, Ints
from stages.evaluation.predict import predict
from stages.exporting.soft_labels import join_by_id
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.dataset import Batch, FaceDataset
from stages.loading.loader import EvalLoader
from stages.loading.shards import FaceStore
from stages.modeling.weights import TeacherCard
from stages.records.schema import read_manifest, targets_of
from stages.runtime.errors import UserError

_BATCH = 64


def read_view(path: Path) -> pd.DataFrame:
    """Read a view of the manifest.

    Raises:
        UserError: if it is missing, breaks the schema or has no rows.
    """
    rows = read_manifest(path)
    if rows.empty:
        raise UserError(f"manifests/{path.name}: export.soft_labels_view: expected rows, got none")
    return rows


class Faces:
    """The faces of some rows as a teacher wants them; its card alone decides how (incident X3)."""

    def __init__(
        self,
        rows: pd.DataFrame,
        *,
        standardized: Path,
        card: TeacherCard,
        device: torch.device,
        workers: int,
    ) -> None:
        """Find the images of all rows.

        Raises:
            UserError: for all rows without an image at once.
        """
        self._rows = rows
        self._store = FaceStore(standardized)
        self._positions = self._store.locate(rows["id"].tolist())
        self._image_size = card.image_size
        self._preprocess = Preprocess.model_validate_json(json.dumps(card.preprocess))
        self._device = device
        self._workers = workers

    def sample(self, count: int) -> Tensor:
        """Images (n, 3, S, S) of at most `count` rows, spread evenly over all of them."""
        last = len(self._rows) - 1
        chosen = np.unique(np.linspace(0, last, count).round().astype(np.int64))
        return torch.cat([batch["image"] for batch in self._loader(chosen)]).contiguous()

    def logits(self, model: nn.Module) -> Floats:
        """A model's logits (N, 7) float64 in the order of the rows, joined by id.

        In float32 whatever `machine.precision` says: labels outlive the machine.
        """
        seen: list[int] = []
        batches = _noting(self._loader(np.arange(len(self._rows))), seen)
        model.to(self._device)
        found = predict(model, batches, device=self._device, dtype=torch.float32)
        model.cpu()
        # The ids are asked of the store: they name the images that were really looked at.
        ids = [self._store.id(position) for position in self._positions[seen].tolist()]
        return join_by_id(found, ids=ids, wanted=self._rows["id"].tolist()).astype(np.float64)

    def _loader(self, chosen: Ints) -> EvalLoader:
        """Plain batches of the rows with these numbers."""
        dataset = FaceDataset(
            self._store,
            positions=self._positions[chosen],
            targets=targets_of(self._rows.iloc[chosen]),
            image_size=self._image_size,
            preprocess=self._preprocess,
            augmentation=NO_AUGMENTATION,
            seed=0,
        )
        return EvalLoader(dataset, batch_size=_BATCH, workers=self._workers, device=self._device)


def _noting(loader: EvalLoader, seen: list[int]) -> Iterator[Batch]:
    """The loader's batches; the row numbers that went by are added to `seen`."""
    for batch in loader:
        seen += batch["index"].tolist()
        yield batch
