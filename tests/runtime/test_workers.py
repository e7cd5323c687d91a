"""Workers share a loop, its results keep their order, and no signal but a kill ends a worker."""

import io
import logging
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import psutil
import pytest

from stages.runtime import workers
from stages.runtime.errors import UserError
from stages.runtime.signals import STOP_SIGNALS
from stages.runtime.workers import WorkerContext, map_in_order, one_opencv_thread, with_progress
from tests.runtime.children import python, running

posix = pytest.mark.skipif(sys.platform == "win32", reason="other signals and pipes there")
# A pool of two, whose processes are then named; it waits to be killed.
PARENT = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from stages.runtime.workers import WorkerContext

pool = ProcessPoolExecutor(2, mp_context=WorkerContext())
list(pool.map(time.sleep, [0.2] * 4))
print(*pool._processes, flush=True)
pool.submit(time.sleep, 600)
time.sleep(600)
"""
SEMAPHORES = """
import os, time; from multiprocessing import resource_tracker
from stages.runtime.signals import STOP_SIGNALS
from stages.runtime.workers import WorkerContext
WorkerContext(); resource_tracker.ensure_running()
pid = resource_tracker._resource_tracker._pid
for number in STOP_SIGNALS: os.kill(pid, number)
time.sleep(1); print(os.waitpid(pid, os.WNOHANG))
"""


def work(number: int, *, folder: Path) -> tuple[int, int]:
    """The first item is done when another process has done the second, or after 20 s."""
    deadline = time.monotonic() + 20
    while number == 0 and not (folder / "1").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (folder / str(number)).touch()
    return number, cv2.getNumThreads()


def test_a_slow_item_is_waited_for_and_no_more_than_the_window_is_begun(tmp_path: Path) -> None:
    num_taken, ahead = 0, []

    def items():
        for number in range(50):
            ahead.append(number - num_taken)
            yield number

    for result in map_in_order(partial(work, folder=tmp_path), items(), workers=2, window=5):
        assert result == (num_taken, 1)
        num_taken += 1
    assert num_taken == 50
    assert max(ahead) <= 5


def begin(number: int, *, folder: Path) -> int:
    """Leaves a file, and fails at the fourth item."""
    (folder / str(number)).touch()
    return 1 // (number - 3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_reaches_the_caller_and_ends_the_work(tmp_path: Path, num_workers: int) -> None:
    work = partial(begin, folder=tmp_path)
    with pytest.raises(ZeroDivisionError):
        list(map_in_order(work, range(1000), workers=num_workers, window=10))
    assert len(list(tmp_path.iterdir())) < 30


def die_while_sending(number: int) -> bytes:
    """Sends 200 kB of 5 MB at the fourth item, and is gone."""

    def send(connection: Connection, message: memoryview) -> None:
        os.write(connection.fileno(), message[:200_000])
        os._exit(9)

    if number == 3:
        Connection._send = send
        return bytes(5_000_000)
    return b""


@posix
def test_a_worker_that_dies_is_an_error_that_names_the_params_key() -> None:
    with pytest.raises(UserError, match=r"params.yaml: machine.workers: .*Use fewer workers, or 0"):
        list(map_in_order(die_while_sending, range(9), workers=2, window=4))


def test_opencv_has_its_threads_back_afterwards() -> None:
    before = cv2.getNumThreads()
    with pytest.raises(RuntimeError), one_opencv_thread():
        assert cv2.getNumThreads() == 1
        raise RuntimeError
    assert cv2.getNumThreads() == before


def test_workers_end_with_a_parent_that_is_killed_idle_or_not() -> None:
    with running(PARENT) as (_, pids):
        processes = [psutil.Process(int(pid)) for pid in pids.split()]
        assert len(processes) == 2
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive


@posix
def test_a_stop_signal_ends_no_worker() -> None:
    with ProcessPoolExecutor(1, mp_context=WorkerContext()) as pool:
        pid = pool.submit(os.getpid).result()
        for number in STOP_SIGNALS:
            slow = pool.submit(time.sleep, 0.3)
            os.kill(pid, number)
            assert slow.result() is None
            assert pool.submit(os.getpid).result() == pid, signal.Signals(number)


@posix
def test_reported_no_stop_signal_ends_the_process_that_counts_semaphores() -> None:
    assert python(SEMAPHORES) == (0, "(0, 0)\n", "")


@pytest.mark.parametrize(("is_terminal", "num_lines"), [(True, 0), (False, 3)])
@pytest.mark.parametrize(("total", "says"), [(None, "expw: 3 faces, "), (3, "expw: 3 of 3 faces")])
def test_a_terminal_shows_a_bar_and_a_log_a_line_now_and_then(
    monkeypatch, caplog, is_terminal: bool, num_lines: int, total: int | None, says: str
) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal
    monkeypatch.setattr(workers, "LINE_EVERY_SECONDS", 0)
    monkeypatch.setattr(sys, "stderr", stream)
    with caplog.at_level(logging.INFO):
        items = with_progress(iter("abc"), name="expw", unit="faces", total=total)
        assert list(items) == ["a", "b", "c"]
    assert ("expw" in stream.getvalue()) == is_terminal
    assert len(caplog.messages) == num_lines
    assert num_lines == 0 or caplog.messages[-1].startswith(says)
