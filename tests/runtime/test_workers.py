import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil
import pytest

from stages.runtime.signals import STOP_SIGNALS
from stages.runtime.workers import WorkerContext

ROOT = Path(__file__).parents[2]
# A pool of two, whose processes are then named; it waits to be killed.
PARENT = """
    import os, time
    from concurrent.futures import ProcessPoolExecutor
    from stages.runtime.workers import WorkerContext

    if __name__ == "__main__":
        pool = ProcessPoolExecutor(2, mp_context=WorkerContext())
        list(pool.map(time.sleep, [0.2] * 4))
        print(*pool._processes, flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def test_workers_end_with_a_parent_that_is_killed_idle_or_not(tmp_path: Path):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        parent.kill()
        _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.skipif(sys.platform == "win32", reason="a process there cannot send these to another")
def test_a_stop_signal_ends_no_worker(number: signal.Signals):
    with ProcessPoolExecutor(1, mp_context=WorkerContext()) as pool:
        pid = pool.submit(os.getpid).result()
        slow = pool.submit(time.sleep, 0.5)
        os.kill(pid, number)
        assert slow.result() is None
        assert pool.submit(os.getpid).result() == pid


@pytest.mark.skipif(sys.platform == "win32", reason="no such process there")
def test_reported_no_stop_signal_ends_the_process_that_counts_semaphores():
    code = (
        "import os, time; from multiprocessing import resource_tracker\n"
        "from stages.runtime.signals import STOP_SIGNALS\n"
        "from stages.runtime.workers import WorkerContext\n"
        "WorkerContext(); resource_tracker.ensure_running()\n"
        "pid = resource_tracker._resource_tracker._pid\n"
        "for number in STOP_SIGNALS: os.kill(pid, number)\n"
        "time.sleep(1); print(os.waitpid(pid, os.WNOHANG))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "(0, 0)\n"), done.stderr
