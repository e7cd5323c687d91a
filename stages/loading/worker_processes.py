"""Worker processes of a loader: how they start, what they must share, and what is said of a death.

Whatever stops the trainer may reach its workers too: Ctrl-C and a job scheduler signal every
process of a group. Workers ignore it, for the trainer wants its batches until it has saved its
state, and they never outlive the trainer.
"""

import atexit
import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
from torch._utils import ExceptionWrapper

from stages.computing.device import keep_freed_memory
from stages.runtime.errors import UserError
from stages.runtime.signals import ignore_stop_signals
from stages.runtime.workers import Worker, WorkerContext

# Torch's DataLoader asks each worker for this many batches ahead.
AHEAD = 2
_MOUNT = Path("/dev/shm")  # noqa: S108 - its size is asked for, nothing else
_IN_WORKER = "in DataLoader worker process"
# Exit codes of a worker that found less memory behind a mapping than it was given.
_BUS_ERRORS = {-signal.SIGBUS} if sys.platform != "win32" else set()
_END_SECONDS = 5.0


def require_shared_memory(batch_bytes: int, *, workers: int, processes: int) -> None:
    """Check that shared memory has room for the batches under way and the one in use.

    Workers hand over their batches through it. A container gets 64 MB unless told otherwise. Each
    of the training's processes on this machine has as many workers.

    Raises:
        UserError: if there is less.
    """
    if not _MOUNT.is_dir():
        # Shared memory is no file system with a size of its own.
        return
    free = shutil.disk_usage(_MOUNT).free
    needed = processes * (AHEAD * workers + 1) * batch_bytes
    if free < needed:
        raise _too_small(
            f"{workers} workers need {needed / 1e6:.0f} MB of shared memory for batches of "
            f"{batch_bytes / 1e6:.1f} MB, {free / 1e6:.0f} MB of {_MOUNT} are free",
            size=f"{2 * needed // 10**9 + 1}g",
        )


def _too_small(reason: str, *, size: str = "2g") -> UserError:
    return UserError(
        f"params.yaml: machine.workers: {reason}; give the container more (`docker run "
        f"--shm-size={size}`, or `--ipc=host`), or set machine.workers: 0, or fewer"
    )


class _Queue(multiprocessing.queues.Queue):  # type: ignore[type-arg]
    """A queue that sends the error of a failed hand-over; else the trainer waits for ever."""

    def _on_queue_feeder_error(self, error: Exception, item: Any) -> None:
        if isinstance(item, tuple):
            number, _ = item
            said = ExceptionWrapper((type(error), error, None), where=_IN_WORKER)  # type: ignore[no-untyped-call]
            self.put((number, said))
        # Else it was ready to be sent: then the trainer listens no more.


class LoaderContext(WorkerContext):
    """A context that starts workers with queues that lose no error."""

    def Queue(self, maxsize: int = 0) -> _Queue:  # noqa: D102, N802 - the name in multiprocessing
        return _Queue(maxsize, ctx=self.get_context())


def start_worker(_number: int) -> None:
    """Keep a new worker to one thread, to the memory that it has, and deaf to stop signals."""
    keep_freed_memory()
    cv2.setNumThreads(1)
    # For Windows, which cannot block signals; after torch, whose worker has a handler of its own.
    ignore_stop_signals()


@atexit.register
def _kill_workers() -> None:
    """End workers whose loader an error keeps alive: Python would wait for them for ever."""
    for child in multiprocessing.active_children():
        if isinstance(child, Worker):
            child.kill()


@contextmanager
def death_explained(workers: Sequence[Worker]) -> Iterator[None]:
    """Turn what torch raises for a worker's error or death into words.

    Raises:
        UserError: as the worker raised it, or if a worker has died or had no shared memory.
    """
    try:
        yield
    except UserError as error:
        if _IN_WORKER not in str(error):
            raise
        # Torch has put the worker's traceback before it.
        raise UserError(str(error).rpartition(f"{UserError.__name__}: ")[2].strip()) from None
    except RuntimeError as error:
        if "unable to allocate shared memory" in str(error):
            last_line = str(error).strip().splitlines()[-1]
            raise _too_small(f"a worker could not hand over a batch: {last_line}") from error
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise _death(error, workers) from error
    except (ConnectionError, EOFError) as error:
        # A worker's connection ends before the worker does: torch may still take it for alive.
        if _IN_WORKER in str(error):
            raise
        # Wait until the system knows what ended it.
        ended = multiprocessing.connection.wait([w.sentinel for w in workers], timeout=_END_SECONDS)
        for worker in workers:
            if worker.sentinel in ended:
                worker.join(_END_SECONDS)
        reason = f"DataLoader worker exited while it sent a batch ({error})"
        raise _death(reason, workers) from error


def _death(of: object, workers: Sequence[Worker]) -> UserError:
    if any(worker.exitcode in _BUS_ERRORS for worker in workers):
        return _too_small(f"{of}: by a bus error: out of shared memory?")
    return UserError(
        f"params.yaml: machine.workers: {of}: possibly killed by the system: out of memory? "
        "Use fewer workers, or 0; run again to go on from the last checkpoint"
    )


@contextmanager
def child_signal_kept() -> Iterator[None]:
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
