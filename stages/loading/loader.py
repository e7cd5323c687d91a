"""Rows of the manifest -> batches, made by worker processes or by this one; they are the same.

For a GPU they are left unfinished: each loader's `finish` makes model input of them there.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Literal, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.utils.data import DataLoader

from stages.computing.team import ALONE, Team
from stages.config import CLASSES, Preprocess, SamplerFill, Stage
from stages.faces.store import FaceStore
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.dataset import Batch, FaceDataset, Unfinished
from stages.loading.finishing import Finish
from stages.loading.sampler import BatchOrder, EpochSampler, RowOrder
from stages.loading.worker_processes import (
    AHEAD,
    LoaderContext,
    child_signal_kept,
    death_explained,
    require_shared_memory,
    start_worker,
)
from stages.records.schema import shares_of, targets_of
from stages.runtime.machine import num_cores
from stages.runtime.workers import with_progress

_MAX_WORKERS = 16


def training_batches(
    store: FaceStore,
    rows: pd.DataFrame,
    *,
    stage_params: Stage,
    preprocess: Preprocess,
    seed: int,
    workers: int,
    device: torch.device,
    team: Team = ALONE,
) -> "TrainLoader":
    """Load rows shuffled and augmented, each class filled up where the stage says so.

    Raises:
        UserError: for all rows without an image at once, or if a batch is too small to be filled.
    """
    prior, labels = stage_params.prior, targets_of(rows)
    targets = training_targets(rows, stage_params.targets)
    sampler = EpochSampler(
        labels,
        batch_size=stage_params.batch_size,
        min_per_class=prior.min_per_class if isinstance(prior, SamplerFill) else 0,
        seed=seed,
    )
    dataset = FaceDataset(
        store,
        positions=store.locate(rows["id"].tolist()),
        targets=targets,
        image_size=stage_params.image_size,
        preprocess=preprocess,
        augmentation=stage_params.augmentation,
        seed=seed,
    )
    loader = TrainLoader(dataset, BatchOrder(sampler, team=team), workers=workers, device=device)
    loader.row_counts = np.bincount(labels, minlength=len(CLASSES))
    loader.shown_counts = sampler.effective_counts
    if stage_params.targets == "votes":
        repeats = (loader.shown_counts / np.maximum(loader.row_counts, 1))[labels]
        loader.row_counts, loader.shown_counts = (
            targets.sum(axis=0, dtype=np.float64),
            repeats @ targets,
        )
    return loader


def training_targets(
    rows: pd.DataFrame, kind: Literal["majority", "votes"]
) -> npt.NDArray[np.int64 | np.float32]:
    """Return classes (N,), or shares (N, 7): of its votes, or 1 of the label of a row without."""
    labels = targets_of(rows)
    if kind == "majority":
        return labels
    shares = shares_of(rows)
    is_voted = ~np.isnan(shares[:, :1])
    return np.where(is_voted, shares, np.eye(len(CLASSES))[labels]).astype(np.float32)


def scoring_batches(
    store: FaceStore,
    rows: pd.DataFrame,
    *,
    image_size: int,
    preprocess: Preprocess,
    workers: int,
    device: torch.device,
    batch_size: int = 64,
    team: Team = ALONE,
) -> "EvalLoader":
    """Load every row once, in order, without augmentation.

    Raises:
        UserError: for all rows without an image at once.
    """
    dataset = FaceDataset(
        store,
        positions=store.locate(rows["id"].tolist()),
        targets=targets_of(rows),
        image_size=image_size,
        preprocess=preprocess,
        augmentation=NO_AUGMENTATION,
        seed=0,
    )
    order = RowOrder(len(dataset), batch_size=batch_size, team=team)
    return EvalLoader(dataset, order, workers=workers, device=device)


def choose_workers(
    wanted: int | Literal["auto"], *, device: torch.device, team: Team = ALONE
) -> int:
    """Choose the number of worker processes; 0 makes batches in the training process.

    `auto` on a CPU is 0: the step already uses every core. With a GPU it is the number of cores
    but the one that feeds the GPU, divided among the team's processes of this machine.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cpu":
        return 0
    return max(1, min(_MAX_WORKERS, num_cores() // team.local_size - 1))


Order = TypeVar("Order", bound=BatchOrder | RowOrder)


class _Loader(Generic[Order]):
    """The batches of an order; `finish` makes model input of them on the device."""

    def __init__(
        self, dataset: FaceDataset, order: Order, *, workers: int, device: torch.device
    ) -> None:
        self.finish = Finish(dataset.preprocess, device=device)
        self._order = order
        on_cpu = device.type == "cpu"
        if workers == 0:
            cv2.setNumThreads(1)
        else:
            batch_bytes = order.largest * 3 * dataset.size**2 * (4 if on_cpu else 1)
            require_shared_memory(batch_bytes, workers=workers, processes=order.team.local_size)
        self._loader = DataLoader(
            dataset if on_cpu else Unfinished(dataset),
            # An item is a whole batch, so torch must not group draws.
            sampler=order,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            multiprocessing_context=LoaderContext() if workers else None,
            persistent_workers=workers > 0,
            worker_init_fn=start_worker,
            pin_memory=device.type == "cuda",
            # DataLoader draws a seed for its workers; not from the generator that training uses.
            generator=torch.Generator(),
        )

    def _batches(self) -> Iterator[Batch]:
        with death_explained([]), child_signal_kept():
            batches = iter(self._loader)

        def explained() -> Iterator[Batch]:
            with death_explained(getattr(batches, "_workers", [])):
                yield from batches

        return explained() if self._loader.num_workers else prefetched(explained())


class TrainLoader(_Loader[BatchOrder]):
    """The batches of any epoch from any batch on; workers start once and outlive the epochs.

    `row_counts` (7,) are the rows of each class, or the sums of their shares; `shown_counts` (7,)
    those that an epoch draws.
    """

    row_counts: npt.NDArray[np.int64 | np.float64]
    shown_counts: npt.NDArray[np.int64 | np.float64]

    @property
    def sizes(self) -> list[int]:
        """Sizes of whole batches, of which each process of the team gets its share."""
        return self._order.sampler.sizes

    def share_seen(self, epoch: int) -> float:
        """Return the share of all rows that an epoch shows."""
        return self._order.sampler.share_seen(epoch)

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        """Return the batches of an epoch from `start_batch` on; earlier ones are not decoded.

        A new call ends the iterator of the call before.

        Raises:
            UserError: here or at a batch, when a worker has died.
        """
        self._order.epoch, self._order.start_batch = epoch, start_batch
        return self._batches()


class EvalLoader(_Loader[RowOrder]):
    """Every row once, in order, in the batches of this process of the team."""

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Batch]:
        return with_progress(self._batches(), name="scoring", unit="batches", total=len(self))

    def in_order(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Join values (n, ...) of each process's rows, by rank, to values of all rows in order.

        Every row has one value: a part of another length is an error of the program.
        """
        rows = np.concatenate([self._order.rows_of(rank) for rank in range(len(parts))])
        values = np.concatenate(parts)
        assert len(values) == len(rows) == self._order.num_rows
        return values[np.argsort(rows)]


def prefetched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the same batches in the same order; while one is used, a thread makes the next.

    OpenCV and torch let other threads of Python run while they compute.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="loader") as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch
