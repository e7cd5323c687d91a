"""Work on rows by several threads; what comes out is the same for any number of them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, TypeVar

import cv2

T = TypeVar("T")
R = TypeVar("R")


def num_threads(wanted: int | Literal["auto"]) -> int:
    """How many threads work; `auto` is one for each core that this process may use."""
    if wanted != "auto":
        return wanted
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_order(
    work: Callable[[T], R], items: Iterable[T], *, workers: int, window: int
) -> Iterator[R]:
    """Yield `work(item)` for each item, in the order of the items.

    At most `window` results are under way or waiting for an earlier one. With 0 workers this
    thread does the work.
    """
    if workers == 0:
        yield from map(work, items)
        return
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                while pending and (len(pending) >= window or pending[0].done()):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own, which would compete with the workers."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
