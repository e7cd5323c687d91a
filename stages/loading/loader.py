"""Batches made by worker processes, or by this one; they are the same either way.

For a GPU they are left unfinished: each loader's `finish` makes model input of them there.

Whatever stops the trainer may reach its workers too: Ctrl-C and a job scheduler signal every
process of a group. Workers outlive it, for the trainer wants its batches until it has saved its
state, and never outlive the trainer.
"""

import atexit
import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import cv2
import numpy as np
import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Sampler

from stages.computing.team import ALONE, Team
from stages.loading.dataset import Batch, FaceDataset, Unfinished
from stages.loading.finishing import Finish
from stages.loading.prefetch import prefetched
from stages.loading.sampler import BatchOrder, Draw, EpochSampler, RowOrder
from stages.loading.shared_memory import AHEAD, require_shared_memory, too_small
from stages.runtime.cores import num_cores
from stages.runtime.errors import UserError
from stages.runtime.signals import ignore_stop_signals
from stages.runtime.workers import Worker, WorkerContext

_MAX_WORKERS = 16
_IN_WORKER = "in DataLoader worker process"
# Exit codes of a worker that found less memory behind a mapping than it was given.
_BUS_ERRORS = {-signal.SIGBUS} if sys.platform != "win32" else set()
_END_SECONDS = 5.0


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
        largest = -(-max(sampler.sizes) // team.size)
        self._loader = _loader(
            dataset, self._order, workers=workers, device=device, largest=largest, team=team
        )
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
        largest = min(batch_size, len(dataset))
        self._loader = _loader(
            dataset, self._order, workers=workers, device=device, largest=largest, team=team
        )
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
    dataset: FaceDataset,
    order: Sampler[list[Draw]],
    *,
    workers: int,
    device: torch.device,
    largest: int,
    team: Team,
) -> DataLoader[Batch]:
    """Batches of the order, of `largest` images at most."""
    faces = dataset if device.type == "cpu" else Unfinished(dataset)
    if workers == 0:
        cv2.setNumThreads(1)
    else:
        require_shared_memory(
            largest * faces.image_bytes, workers=workers, processes=team.local_size
        )
    return DataLoader(
        faces,
        # An item is a whole batch, so torch must neither group draws nor collate.
        sampler=order,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        multiprocessing_context=_LoaderContext() if workers else None,
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
        pin_memory=device.type == "cuda",
        # DataLoader draws a seed for its workers; not from the generator that training uses.
        generator=torch.Generator(),
    )


class _Queue(multiprocessing.queues.Queue):  # type: ignore[type-arg]
    """Says what kept a worker from handing a batch over; else the trainer would wait for ever."""

    def _on_queue_feeder_error(self, error: Exception, item: Any) -> None:
        if isinstance(item, tuple):
            number, _ = item
            said = ExceptionWrapper((type(error), error, None), where=_IN_WORKER)  # type: ignore[no-untyped-call]
            self.put((number, said))
        # Else it was ready to be sent: then nobody listens.


class _LoaderContext(WorkerContext):
    """Starts workers with queues that lose nothing."""

    def Queue(self, maxsize: int = 0) -> _Queue:  # noqa: N802 - the name in multiprocessing
        return _Queue(maxsize, ctx=self.get_context())


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
    with _death_explained([]), _child_signal_kept():
        batches = iter(loader)
    return _explained(batches) if loader.num_workers else prefetched(_explained(batches))


def _explained(batches: Iterator[Batch]) -> Iterator[Batch]:
    with _death_explained(getattr(batches, "_workers", [])):
        yield from batches


@contextmanager
def _death_explained(workers: Sequence[Worker]) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        if _IN_WORKER not in str(error):
            raise
        # Torch has put the worker's traceback before it.
        raise UserError(str(error).rpartition(f"{UserError.__name__}: ")[2].strip()) from None
    except RuntimeError as error:
        if "unable to allocate shared memory" in str(error):
            raise too_small(f"a worker could not hand over a batch: {_last_line(error)}") from error
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise _death(error, workers) from error
    except (ConnectionError, EOFError) as error:
        # A worker's connection ends before the worker does: torch may still take it for alive.
        if _IN_WORKER in str(error):
            raise
        _await_end_of_one(workers)
        reason = f"DataLoader worker exited while it sent a batch ({error})"
        raise _death(reason, workers) from error


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def _await_end_of_one(workers: Sequence[Worker]) -> None:
    """Wait until the system knows what ended a worker whose pipes are closed already."""
    ending = {worker.sentinel: worker for worker in workers}
    for sentinel in multiprocessing.connection.wait(list(ending), timeout=_END_SECONDS):
        ending[cast(int, sentinel)].join(_END_SECONDS)


def _death(of: object, workers: Sequence[Worker]) -> UserError:
    if any(worker.exitcode in _BUS_ERRORS for worker in workers):
        return too_small(f"{of}: by a bus error, for want of shared memory?")
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
