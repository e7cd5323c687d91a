"""A thread makes the next batch, and nothing else changes."""

import threading
from collections.abc import Iterator

import pytest
import torch

from stages.loading.dataset import Batch
from stages.loading.prefetch import prefetched
from stages.runtime.errors import UserError


def numbered(count: int) -> Iterator[Batch]:
    for number in range(count):
        yield {"index": torch.tensor([number])}


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_batches_are_the_same_and_in_order(count: int) -> None:
    assert [int(batch["index"]) for batch in prefetched(numbered(count))] == list(range(count))


def test_the_next_batch_is_made_while_one_is_used() -> None:
    made = [threading.Event() for _ in range(3)]

    def batches() -> Iterator[Batch]:
        for number, event in enumerate(made):
            event.set()
            yield {"index": torch.tensor([number])}

    found = prefetched(batches())
    next(found)
    assert made[1].wait(timeout=30)
    assert not made[2].is_set()
    assert len(list(found)) == 2


def test_an_error_comes_where_its_batch_was_due() -> None:
    def batches() -> Iterator[Batch]:
        yield from numbered(2)
        raise UserError("damaged")

    found = prefetched(batches())
    assert int(next(found)["index"]) == 0
    assert int(next(found)["index"]) == 1
    with pytest.raises(UserError, match="damaged"):
        next(found)


def test_batches_that_are_left_unused_leave_no_thread_behind() -> None:
    before = threading.active_count()
    found = prefetched(numbered(9))
    next(found)
    assert threading.active_count() == before + 1
    found.close()
    assert threading.active_count() == before
