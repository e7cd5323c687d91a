"""Batches made by worker processes, or by this one; they are the same either way.

For a GPU they are left unfinished: each loader's `finish` makes model input of them there.

Whatever stops the trainer may reach its workers too: Ctrl-C and a job scheduler signal every
process of a group. Workers outlive it, for the trainer wants its batches until it has saved its
state, and never outlive the trainer.
"""

import atexit
import multiprocessing
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from stages.loading.dataset import Batch, FaceDataset, Unfinished
from stages.loading.finishing import Finish
from stages.loading.prefetch import prefetched
from stages.loading.sampler import BatchOrder, Draw, EpochSampler, RowOrder
from stages.runtime.cores import num_cores
from stages.runtime.errors import UserError
from stages.runtime.signals import ignore_stop_signals
from stages.runtime.team import ALONE, Team
from stages.runtime.workers import Worker, WorkerContext

_MAX_WORKERS = 16


class TrainLoader:
    """The batches of any epoch from any batch on; workers start once and outlive the epochs.

    `sizes` are those of whole batches, of which each process of the team gets its share.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        sampler: EpochSampler,
        *,
        workers: int,
        device: torch.device,
        team: Team = ALONE,
    ) -> None:
        self._sampler = sampler
        self._order = BatchOrder(sampler, team=team)
        self._loader = _loader(dataset, self._order, workers=workers, device=device)
        self.finish = Finish(dataset.preprocess, device=device)
        self.sizes = sampler.sizes
        self.effective_counts = sampler.effective_counts

    def share_seen(self, epoch: int) -> float:
        """Which share of all rows an epoch shows."""
        return self._sampler.share_seen(epoch)

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        """Batches `start_batch`, `start_batch` + 1, ... of an epoch; earlier ones are not decoded.

        A new call ends the iterator of the call before.

        Raises:
            UserError: here or at a batch, when a worker has died.
        """
        self._order.epoch, self._order.start_batch = epoch, start_batch
        return _batches(self._loader)


class EvalLoader:
    """Every row once, in order, in the batches of this process of the team."""

    def __init__(
        self,
        dataset: FaceDataset,
        *,
        batch_size: int,
        workers: int,
        device: torch.device,
        team: Team = ALONE,
    ) -> None:
        self._order = RowOrder(len(dataset), batch_size=batch_size, team=team)
        self._loader = _loader(dataset, self._order, workers=workers, device=device)
        self.finish = Finish(dataset.preprocess, device=device)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        return _batches(self._loader)

    def in_order(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """What each process made of the rows of its batches (n, ...), by rank -> that of all rows.

        Every row has one value: a part of another length is an error of the program.
        """
        rows = np.concatenate([self._order.rows_of(rank) for rank in range(len(parts))])
        values = np.concatenate(parts)
        assert len(values) == len(rows) == self._order.num_rows
        in_order = np.empty_like(values)
        in_order[rows] = values
        return in_order


def choose_workers(
    wanted: int | Literal["auto"], *, device: torch.device, team: Team = ALONE
) -> int:
    """The number of worker processes; 0 makes batches in the training process.

    `auto` on a CPU is 0: the step already uses every core. With a GPU it is the most that have a
    core of their own, but for the one that feeds the GPU, divided among the team's processes of
    this machine.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cpu":
        return 0
    return max(1, min(_MAX_WORKERS, num_cores() // team.local_size - 1))


def _loader(
    dataset: FaceDataset, order: Sampler[list[Draw]], *, workers: int, device: torch.device
) -> DataLoader[Batch]:
    if workers == 0:
        cv2.setNumThreads(1)
    return DataLoader(
        dataset if device.type == "cpu" else Unfinished(dataset),
        # An item is a whole batch, so torch must neither group draws nor collate.
        sampler=order,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        multiprocessing_context=WorkerContext() if workers else None,
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
    # For Windows, which holds nothing back; after torch, whose worker has a handler of its own.
    ignore_stop_signals()


@atexit.register
def _kill_workers() -> None:
    """End workers whose loader an error keeps alive: Python would wait for them for ever."""
    for child in multiprocessing.active_children():
        if isinstance(child, Worker):
            child.kill()


def _batches(loader: DataLoader[Batch]) -> Iterator[Batch]:
    with _death_explained(), _child_signal_kept():
        batches = iter(loader)
    return _explained(batches) if loader.num_workers else prefetched(_explained(batches))


def _explained(batches: Iterator[Batch]) -> Iterator[Batch]:
    with _death_explained():
        yield from batches


@contextmanager
def _death_explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise _death(error) from error
    except (ConnectionError, EOFError) as error:
        # A worker's connection ends before the worker does: torch may still take it for alive.
        if "in DataLoader worker process" in str(error):
            raise
        raise _death(f"DataLoader worker exited while it sent a batch ({error})") from error


def _death(of: object) -> UserError:
    return UserError(
        f"params.yaml: machine.workers: {of}: killed by the system for want of memory? "
        "Use fewer workers, or 0; run again to go on from the last checkpoint"
    )


@contextmanager
def _child_signal_kept() -> Iterator[None]:
    """Undo torch's handler of SIGCHLD, which raises wherever the trainer is, in a save too.

    Without it the end of a worker is noticed when the next batch is due, at most 5 s later.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if signal.getsignal(signal.SIGCHLD) is not before:
        signal.signal(signal.SIGCHLD, before)
