"""Long loops over items: worker processes that share the work, and how far the loop is."""

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from stages.runtime.errors import UserError
from stages.runtime.signals import ignore_stop_signals, stop_signals_held_back

T = TypeVar("T")
R = TypeVar("R")

LINE_EVERY_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 1.0
_MOST_WORKERS = 61  # Windows can wait for no more at once

# The work that a worker process does with each item.
_work: Callable[[Any], Any]

logger = logging.getLogger(__name__)


class Worker(SpawnProcess):
    """A process that no stop signal ends, at any moment, and that ends when its parent does."""

    def start(self) -> None:
        """Start it; no stop signal reaches it before it can ignore them."""
        with stop_signals_held_back():
            super().start()

    def run(self) -> None:
        """Do its work, and end with its parent."""
        # torch looks for a change of the parent's pid, and so never ends a worker whose parent died
        # before it looked first: importing torch takes seconds.
        threading.Thread(target=_end_with_parent, daemon=True).start()
        # Windows holds no signals back.
        ignore_stop_signals()
        super().run()

    def terminate(self) -> None:
        """Kill it: it ignores SIGTERM."""
        self.kill()


class WorkerContext(SpawnContext):
    """A multiprocessing context that starts workers."""

    Process = Worker

    def __init__(self) -> None:
        super().__init__()
        if sys.platform != "win32":
            # Python starts a process that counts semaphores. By itself that one ignores SIGINT and
            # SIGTERM only, and its death is a traceback.
            with stop_signals_held_back():
                resource_tracker.ensure_running()


def map_in_order(
    work: Callable[[T], R], items: Iterable[T], *, workers: int, window: int
) -> Iterator[R]:
    """Yield `work(item)` for each item, in the order of the items.

    At most `window` results are under way or waiting for an earlier one. With 0 workers this
    process does the work; else `work`, items and results are pickled, `work` once for each worker.
    A worker that dies is a `UserError`.
    """
    if workers == 0:
        yield from map(work, items)
        return
    pending: deque[Future[R]] = deque()
    workers, context = min(workers, _MOST_WORKERS), WorkerContext()
    pool = ProcessPoolExecutor(workers, context, initializer=_set_up, initargs=(work,))
    try:
        for item in items:
            pending.append(pool.submit(_call, item))
            while pending and (len(pending) >= window or pending[0].done()):
                yield _result(pending.popleft(), pool)
        while pending:
            yield _result(pending.popleft(), pool)
    except BrokenProcessPool as error:
        raise UserError(
            f"params.yaml: machine.workers: {error} (a reason may stand above): killed by the "
            "system for want of memory? Use fewer workers, or 0"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own, which would compete with the workers."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def with_progress(
    items: Iterable[T], *, name: str, unit: str = "rows", total: int | None = None
) -> Iterator[T]:
    """Yield the items; show a bar on a terminal, else log at times how many are done.

    The line says of how many, if `total` is given, else their rate. Of several processes that
    train together only the one that logs shows a bar.
    """
    if not logger.isEnabledFor(logging.INFO):
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, desc=name, unit=f" {unit}", total=total, leave=False)
        return
    start = last_line = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last_line >= LINE_EVERY_SECONDS:
            last_line = now
            rate = number / (now - start)
            how_far = f"{number:,} {unit}, {rate:,.{0 if rate >= 10 else 1}f} {unit}/s"
            if total:
                how_far = f"{number:,} of {total:,} {unit}"
            logger.info("%s: %s", name, how_far)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _set_up(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    cv2.setNumThreads(1)


def _call(item: Any) -> Any:
    return _work(item)


def _result(future: Future[R], pool: ProcessPoolExecutor) -> R:
    """Return the result, or raise if a worker died, even while it sent its own result.

    The pool waits for the rest of what a worker was sending when it was killed, for ever: the pipe
    ends only when nobody holds its other end, which the pool and the other workers do.
    """
    while not wait([future], timeout=_LOOK_EVERY_SECONDS).done:
        workers = list((pool._processes or {}).values())
        if any(worker.exitcode is not None for worker in workers):
            for worker in workers:
                worker.kill()
            pool._result_queue._writer.close()  # type: ignore[attr-defined]
    return future.result()
