"""Work on items by several processes; what comes out is the same for any number of them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import cv2

from stages.runtime.cores import num_cores
from stages.runtime.errors import UserError
from stages.runtime.workers import WorkerContext

T = TypeVar("T")
R = TypeVar("R")

_LOOK_EVERY_SECONDS = 1.0
_MOST_WORKERS = 61  # Windows can wait for no more at once

# In a worker, what it does with each item.
_work: Callable[[Any], Any]


def num_threads(wanted: int | Literal["auto"]) -> int:
    """How many processes or threads work; `auto` is one for each core that this process may use."""
    return num_cores() if wanted == "auto" else wanted


def map_in_order(
    work: Callable[[T], R], items: Iterable[T], *, workers: int, window: int
) -> Iterator[R]:
    """Yield `work(item)` for each item, in the order of the items.

    At most `window` results are under way or waiting for an earlier one. With 0 workers this
    process does the work; else `work`, items and results are pickled, `work` once for each worker.

    Raises:
        UserError: if a worker dies.
    """
    if workers == 0:
        yield from map(work, items)
        return
    pending: deque[Future[R]] = deque()
    workers = min(workers, _MOST_WORKERS)
    with ProcessPoolExecutor(
        workers, mp_context=WorkerContext(), initializer=_start, initargs=(work,)
    ) as pool:
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
            for future in pending:
                future.cancel()


def _result(future: Future[R], pool: ProcessPoolExecutor) -> R:
    """The result, or an error if a worker died, in the middle of sending its own too."""
    while not wait([future], timeout=_LOOK_EVERY_SECONDS).done:
        _break_if_one_died(pool)
    return future.result()


def _break_if_one_died(pool: ProcessPoolExecutor) -> None:
    """Let the pool see that a worker is dead.

    The pool waits for the rest of what a worker was sending when it was killed, for ever: the pipe
    ends only when nobody holds its other end, which the pool and the other workers do.
    """
    workers = list((pool._processes or {}).values())
    if all(worker.exitcode is None for worker in workers):
        return
    for worker in workers:
        worker.kill()
    pool._result_queue._writer.close()  # type: ignore[attr-defined]


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own, which would compete with the workers."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _start(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    cv2.setNumThreads(1)


def _call(item: Any) -> Any:
    return _work(item)
