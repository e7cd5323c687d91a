"""Batches made in the training process, while it uses the ones before."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from stages.loading.dataset import Batch


def prefetched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches in the same order; while one is used, a thread makes the next.

    OpenCV and torch let other threads of Python run while they compute.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="loader") as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch
