"""manifests/, standardized/ and models/ -> the rows that an export labels and is checked with.

Faces are prepared as each teacher's card says, and by nothing else.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stages.calibrating.published import find_past
from stages.computing.device import choose_device
from stages.config import NUM_CLASSES, Export, Machine
from stages.exporting.face_views import AllLogits, FaceView
from stages.exporting.teacher_inputs import ModelInput
from stages.faces.decode import Image, decode
from stages.faces.store import FaceStore
from stages.loading.loader import EvalLoader, choose_workers, scoring_batches
from stages.modeling.card import TeacherCard
from stages.modeling.predict import predict
from stages.records.folder import MANIFEST_FILE, ManifestFolder, read_folder
from stages.records.schema import read_manifest
from stages.runtime.errors import UserError
from stages.scoring.metrics import Floats


class FaceReader:
    """Faces of manifest rows, in the order of the rows, as a model wants them."""

    def __init__(self, standardized: Path, machine: Machine) -> None:
        self.store = FaceStore(standardized)
        self._device = choose_device(machine.device)
        self._workers = choose_workers(machine.workers, device=self._device)

    def batches(self, rows: pd.DataFrame, wanted: ModelInput) -> Iterator[Tensor]:
        """Read model input (n, 3, S, S)."""
        loader = self._load(rows, wanted)
        return (loader.finish(batch)["image"].cpu().contiguous() for batch in loader)

    def logits(
        self,
        rows: pd.DataFrame,
        models: Sequence[nn.Module],
        *,
        inputs: Sequence[ModelInput],
        views: Sequence[FaceView],
    ) -> Floats:
        """Compute the logits (V, M, N, 7) of V views of each face by M models.

        Each model sees its own input; faces are read once for all models of one input. In float32
        whatever `machine.precision` says: labels outlive the machine.
        """
        logits = np.empty((len(views), len(models), len(rows), NUM_CLASSES))
        for wanted in dict.fromkeys(inputs):
            members = [number for number, each in enumerate(inputs) if each == wanted]
            loader = self._load(rows, wanted)
            asked = AllLogits([models[number] for number in members], views).to(self._device)
            # A new module is in training mode, and `predict` would leave the models in it.
            asked.eval()
            answers = predict(
                asked, loader, finish=loader.finish, device=self._device, dtype=torch.float32
            )
            asked.cpu()
            # It refuses any number of predictions but one of each row, view and model.
            by_row = answers.reshape(len(rows), len(views), len(members), NUM_CLASSES)
            logits[:, members] = by_row.transpose(1, 2, 0, 3)
        return logits

    def _load(self, rows: pd.DataFrame, wanted: ModelInput) -> EvalLoader:
        return scoring_batches(
            self.store,
            rows,
            image_size=wanted.image_size,
            preprocess=wanted.preprocess,
            workers=self._workers,
            device=self._device,
        )


@dataclass(frozen=True)
class ExportRows:
    """The rows of an export.

    `labelled` get soft labels. `held_out` are rows of `split` that no teacher was trained on, to
    measure losses with. `checked` are some of them, and `pictures` their faces. `val` are all val
    rows. `seen` holds the ids of all rows of the manifest that a teacher has learnt.
    """

    reader: FaceReader
    labelled: pd.DataFrame
    seen: frozenset[str]
    split: Literal["test", "val"]
    held_out: pd.DataFrame
    checked: pd.DataFrame
    pictures: list[Image]
    val: pd.DataFrame

    def images(self, wanted: ModelInput) -> Tensor:
        """Read model input (N, 3, S, S) of the rows of `checked`."""
        return torch.cat(list(self.reader.batches(self.checked, wanted)))


def choose_rows(
    view: Path, models: Path, cards: Sequence[TeacherCard], *, reader: FaceReader, settings: Export
) -> ExportRows:
    """Read the view to label, and choose rows to check with from the manifest beside it.

    Raises:
        UserError: if the view or the rows to check with are empty, an image is missing, or the
            teachers belong to another manifest.
    """
    labelled = read_manifest(view)
    if labelled.empty:
        raise UserError(f"manifests/{view.name}: export.soft_labels_view: expected rows, got none")
    # A missing image is said now, not after minutes of export.
    reader.store.locate(labelled["id"].tolist())
    manifest = read_folder(view.parent)
    if manifest.sha256 != cards[0].manifest_sha256:
        raise UserError(
            f"{view.parent.name}/{MANIFEST_FILE}: expected the teachers' manifest "
            f"{cards[0].manifest_sha256[:12]}…, got {manifest.sha256[:12]}…; "
            f"run `dvc repro {cards[0].stage}`"
        )
    seen = seen_ids(models, cards, manifest=manifest)
    split, rows = held_out_rows(manifest.rows, seen=seen)
    checked = spread(rows, settings.parity_rows)
    positions = reader.store.locate(checked["id"].tolist())
    return ExportRows(
        reader=reader,
        labelled=labelled,
        seen=seen,
        split=split,
        held_out=spread(rows, settings.accuracy_rows),
        checked=checked,
        pictures=[decode(image) for image in reader.store.images(positions)],
        val=manifest.rows[manifest.rows["split"] == "val"],
    )


def seen_ids(
    models: Path, cards: Sequence[TeacherCard], *, manifest: ManifestFolder
) -> frozenset[str]:
    """Find the rows that some teacher was trained on, or that share a group with such a row.

    In its stage or in the one that it started from. `logits.parquet` says so for val, test and gate
    rows; for all others the filters by which training chose its rows tell.

    Raises:
        UserError: if a teacher started from weights of another manifest.
    """
    weights = [card.weights_sha256 for card in cards]
    past = find_past(weights, models=models, manifest=manifest)
    if past.unknown:
        raise UserError(
            f"models/: which rows the teachers have learnt is not known: {past.unknown}; "
            f"run `dvc repro {cards[0].stage}`"
        )
    files = [models / card.stage / card.teacher / "logits.parquet" for card in cards]
    tables = [pd.read_parquet(path, columns=["id", "seen"]) for path in files]
    return frozenset(past.trained["id"]).union(*(table["id"][table["seen"]] for table in tables))


def held_out_rows(
    manifest: pd.DataFrame, *, seen: AbstractSet[str]
) -> tuple[Literal["test", "val"], pd.DataFrame]:
    """Select the rows of test, or of val if test has none, whose ids are not among `seen`.

    Raises:
        UserError: if there are neither.
    """
    unseen = manifest[~manifest["id"].isin(seen)]
    if len(test := unseen[unseen["split"] == "test"]):
        return "test", test
    if len(val := unseen[unseen["split"] == "val"]):
        return "val", val
    raise UserError(f"manifests/{MANIFEST_FILE}: expected test or val rows to check with, got none")


def spread(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Select at most `count` of the rows, spread evenly over all of them, in their order."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(np.int64))]
