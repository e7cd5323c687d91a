"""Batches made by worker processes, or by this one; they are the same either way."""

import os
import signal
from collections.abc import Iterator
from typing import Any, Literal

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from stages.loading.dataset import Batch, FaceDataset
from stages.loading.sampler import BatchOrder, Draw, EpochSampler, RowOrder

_MAX_WORKERS = 16


class TrainLoader:
    """The batches of any epoch from any batch on; workers start once and outlive the epochs."""

    def __init__(
        self, dataset: FaceDataset, sampler: EpochSampler, *, workers: int, device: torch.device
    ) -> None:
        self._order = BatchOrder(sampler)
        self._loader = _loader(dataset, self._order, workers=workers, device=device)
        self.num_batches = sampler.num_batches
        self.effective_counts = sampler.effective_counts

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        """Batches `start_batch`, `start_batch` + 1, ... of an epoch; earlier ones are not decoded.

        A new call ends the iterator of the call before.
        """
        self._order.epoch, self._order.start_batch = epoch, start_batch
        return iter(self._loader)


class EvalLoader:
    """Every row once, in order."""

    def __init__(
        self, dataset: FaceDataset, *, batch_size: int, workers: int, device: torch.device
    ) -> None:
        order = RowOrder(len(dataset), batch_size=batch_size)
        self._loader = _loader(dataset, order, workers=workers, device=device)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._loader)


def choose_workers(wanted: int | Literal["auto"], *, device: torch.device) -> int:
    """The number of worker processes; 0 makes batches in the training process.

    `auto` on a CPU is 0: the step already uses every core. With a GPU it is one for each core but
    the one that feeds the GPU.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cpu":
        return 0
    return max(1, min(_MAX_WORKERS, (os.cpu_count() or 1) - 1))


def _loader(
    dataset: FaceDataset, order: Sampler[list[Draw]], *, workers: int, device: torch.device
) -> DataLoader[Batch]:
    if workers == 0:
        cv2.setNumThreads(1)
    return DataLoader(
        dataset,
        # An item is a whole batch, so torch must neither group draws nor collate.
        sampler=order,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
        pin_memory=device.type == "cuda",
        # DataLoader draws a seed for its workers; not from the generator that training uses.
        generator=torch.Generator(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_number: int) -> None:
    cv2.setNumThreads(1)
    # Ctrl-C reaches the whole process group; the trainer wants its batches until it has saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
