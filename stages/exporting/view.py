"""Rows of the manifest -> model input and logits, prepared as the teacher's card says."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stages.computing.device import choose_device
from stages.config import Machine, Preprocess
from stages.exporting.soft_labels import join_by_id
from stages.faces.decode import Image, decode
from stages.faces.store import FaceStore
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.dataset import Batch, FaceDataset
from stages.loading.loader import EvalLoader, choose_workers
from stages.modeling.card import TeacherCard
from stages.modeling.predict import predict
from stages.records.schema import read_manifest, targets_of
from stages.runtime.errors import UserError
from stages.scoring.metrics import Floats

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


def spread(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """At most `count` of the rows, spread evenly over all of them, in their order."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(np.int64))
    return rows.iloc[chosen]


@dataclass(frozen=True)
class Preparation:
    """Where faces are, and how a teacher wants them: its card alone decides (incident X3)."""

    standardized: Path
    card: TeacherCard
    machine: Machine

    def faces(self, rows: pd.DataFrame) -> "Faces":
        """The faces of some rows.

        Raises:
            UserError: for all rows without an image at once.
        """
        return Faces(rows, self)


class Faces:
    """The faces of some rows as a teacher wants them, in the order of the rows."""

    def __init__(self, rows: pd.DataFrame, preparation: Preparation) -> None:
        self._rows = rows
        self._store = FaceStore(preparation.standardized)
        self._positions = self._store.locate(rows["id"].tolist())
        self._image_size = preparation.card.image_size
        text = json.dumps(preparation.card.preprocess)
        self._preprocess = Preprocess.model_validate_json(text)
        self._device = choose_device(preparation.machine.device)
        self._workers = choose_workers(preparation.machine.workers, device=self._device)

    def batches(self) -> Iterator[Tensor]:
        """Model input (n, 3, S, S) of all rows, in their order."""
        loader = self._loader()
        return (loader.finish(batch)["image"].cpu().contiguous() for batch in loader)

    def pictures(self) -> list[Image]:
        """The stored faces of all rows, RGB (H, W, 3)."""
        return [decode(image) for image in self._store.images(self._positions)]

    def logits(self, model: nn.Module) -> Floats:
        """A model's logits (N, 7) float64 in the order of the rows, joined by id.

        In float32 whatever `machine.precision` says: labels outlive the machine.
        """
        seen: list[int] = []
        loader = self._loader()
        model.to(self._device)
        found = predict(
            model,
            _noting(loader, seen),
            finish=loader.finish,
            device=self._device,
            dtype=torch.float32,
        )
        model.cpu()
        # The ids are asked of the store: they name the images that were really looked at.
        ids = [self._store.id(position) for position in self._positions[seen].tolist()]
        return join_by_id(found, ids=ids, wanted=self._rows["id"].tolist()).astype(np.float64)

    def _loader(self) -> EvalLoader:
        dataset = FaceDataset(
            self._store,
            positions=self._positions,
            targets=targets_of(self._rows),
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
