import os
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.cores import num_threads
from stages.runtime.errors import UserError
from stages.runtime.workers import map_in_order, one_opencv_thread


def doubled(number: int) -> int:
    return number * 2


@given(numbers=st.lists(st.integers(), max_size=40), window=st.integers(1, 9))
def test_without_workers_results_come_in_the_order_of_the_items(numbers, window):
    done = map_in_order(doubled, numbers, workers=0, window=window)
    assert list(done) == [number * 2 for number in numbers]


def slow_at_first(number: int) -> int:
    time.sleep(0.3 if number == 0 else 0)
    return number


@pytest.mark.parametrize("window", [1, 4, 40])
def test_an_early_item_that_is_slow_is_waited_for(window: int):
    assert list(map_in_order(slow_at_first, range(30), workers=2, window=window)) == list(range(30))


def test_no_more_than_the_window_is_begun_before_the_first_is_taken():
    num_taken = 0
    ahead = []

    def items():
        for number in range(50):
            ahead.append(number - num_taken)
            yield number

    for _ in map_in_order(doubled, items(), workers=2, window=5):
        num_taken += 1
    assert max(ahead) <= 5


@dataclass(frozen=True)
class Meeting:
    """Waits until so many processes have come, at most 20 s."""

    folder: Path
    size: int

    def __call__(self, number: int) -> int:
        (self.folder / str(number)).touch()
        for _ in range(400):
            if len(list(self.folder.iterdir())) >= self.size:
                return os.getpid()
            time.sleep(0.05)
        raise TimeoutError


def test_several_processes_work_at_once(tmp_path: Path):
    # Alone, the first would wait there for ever.
    processes = set(map_in_order(Meeting(tmp_path, 2), range(2), workers=2, window=2))
    assert len(processes) == 2
    assert os.getpid() not in processes


def process(_: int) -> int:
    return os.getpid()


def test_without_workers_this_process_works():
    assert set(map_in_order(process, range(3), workers=0, window=2)) == {os.getpid()}


@dataclass(frozen=True)
class Diary:
    """Fails at the fourth item; each one begun leaves a file."""

    folder: Path

    def __call__(self, number: int) -> int:
        (self.folder / str(number)).touch()
        return 1 // (number - 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_reaches_the_caller_and_ends_the_work(tmp_path: Path, workers: int):
    with pytest.raises(ZeroDivisionError):
        list(map_in_order(Diary(tmp_path), range(1000), workers=workers, window=10))
    assert len(list(tmp_path.iterdir())) < 30


def die(number: int) -> int:
    if number == 3:
        os._exit(9)
    return number


def test_a_worker_that_dies_is_an_error_that_names_the_params_key():
    with pytest.raises(UserError, match=r"params.yaml: machine.workers: .*Use fewer workers, or 0"):
        list(map_in_order(die, range(9), workers=2, window=4))


def die_while_sending(number: int) -> bytes:
    """Sends 200 kB of 5 MB at the fourth item, and is gone."""

    def send(connection: Connection, message: memoryview) -> None:
        os.write(connection.fileno(), message[:200_000])
        os._exit(9)

    if number == 3:
        Connection._send = send
        return bytes(5_000_000)
    return b""


@pytest.mark.skipif(sys.platform == "win32", reason="another kind of pipe there")
def test_a_worker_that_dies_while_it_sends_is_an_error_too():
    with pytest.raises(UserError, match=r"Use fewer workers, or 0"):
        list(map_in_order(die_while_sending, range(9), workers=2, window=4))


def opencv_threads(_: int) -> int:
    return cv2.getNumThreads()


def test_opencv_has_one_thread_in_a_worker():
    assert set(map_in_order(opencv_threads, range(5), workers=2, window=9)) == {1}


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
