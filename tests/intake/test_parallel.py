import threading
import time

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.intake.parallel import map_in_order, num_threads, one_opencv_thread


@given(
    numbers=st.lists(st.integers(), max_size=40),
    workers=st.integers(0, 4),
    window=st.integers(1, 9),
)
def test_results_come_in_the_order_of_the_items(numbers, workers, window):
    done = map_in_order(lambda number: number * 2, numbers, workers=workers, window=window)
    assert list(done) == [number * 2 for number in numbers]


def test_an_early_item_that_is_slow_is_waited_for():
    def work(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number

    assert list(map_in_order(work, range(9), workers=3, window=9)) == list(range(9))


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_than_the_window_is_begun_before_the_first_is_taken(workers: int):
    num_taken = 0
    ahead = []

    def items():
        for number in range(50):
            ahead.append(number - num_taken)
            yield number

    for _ in map_in_order(lambda n: n, items(), workers=workers, window=5):
        num_taken += 1
    assert max(ahead) <= 5


def test_several_threads_work_at_once():
    both = threading.Barrier(2)
    # Alone, the first would wait here for ever.
    assert list(map_in_order(lambda _: both.wait(10), range(2), workers=2, window=2))


def test_without_workers_this_thread_works():
    idents = map_in_order(lambda _: threading.get_ident(), range(3), workers=0, window=2)
    assert set(idents) == {threading.get_ident()}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_reaches_the_caller_and_ends_the_work(workers: int):
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        return 1 // (number - 3)

    with pytest.raises(ZeroDivisionError):
        list(map_in_order(work, range(1000), workers=workers, window=10))
    assert len(begun) < 30


def test_opencv_has_its_threads_back_afterwards():
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        with pytest.raises(RuntimeError), one_opencv_thread():
            assert cv2.getNumThreads() == 1
            raise RuntimeError
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_as_many_threads_as_asked_for_or_at_least_one():
    assert num_threads(0) == 0
    assert num_threads(3) == 3
    assert num_threads("auto") >= 1
