"""Locks that lock nothing: a holder that may be at work is not run over, one that is gone is."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from stages.runtime import lock
from stages.runtime.errors import InterruptedRunError, LockHeldError
from stages.runtime.files import read_json, write_json
from stages.runtime.lock import HOLDER, is_held, removal_lock, run_lock

posix = pytest.mark.skipif(sys.platform == "win32", reason="another call locks there")
Leave = Callable[..., None]


@pytest.fixture
def leave(tmp_path: Path) -> Leave:
    """A function that leaves the file of a holder which got no chance to end cleanly."""

    def fill(**changes: Any) -> None:
        write_json(tmp_path / HOLDER, lock._own_holder().model_dump(mode="json") | changes)

    return fill


@pytest.fixture
def nolock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS with nolock: whoever asks gets every lock."""
    monkeypatch.setattr("fcntl.flock", lambda *_: None)


def refused(folder: Path) -> str:
    with pytest.raises(LockHeldError) as error, run_lock(folder):
        pass
    assert error.value.exit_code == 3
    return str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "nodeA"},
        {"host": "nodeA", "pid_space": "0badcafe", "kernel": "0123456789abcdef"},
        # A container, as it calls itself after any start, on whichever machine.
        {"pid_space": "0badcafe", "kernel": "0123456789abcdef"},
        {"host": "nodeA", "pid_space": "", "kernel": ""},
    ],
)
@pytest.mark.parametrize("takes", [run_lock, removal_lock])
def test_reported_lock_that_locks_nothing_between_hosts(
    tmp_path: Path, leave: Leave, changes: dict[str, str], takes
) -> None:
    leave(**changes, command="train stageA B3")
    before = (tmp_path / HOLDER).read_bytes()
    with pytest.raises(LockHeldError) as error, takes(tmp_path):
        pass
    assert error.value.exit_code == 3
    holder = read_json(tmp_path / HOLDER)
    assert f"pid {os.getpid()} on {holder['host']} since " in str(error.value)
    assert "train stageA B3" in str(error.value)
    assert is_held(tmp_path)
    assert (tmp_path / HOLDER).read_bytes() == before
    # What the message says.
    assert f"remove {(tmp_path / HOLDER).as_posix()} and start again" in str(error.value)
    (tmp_path / HOLDER).unlink()
    with takes(tmp_path):
        pass


@posix
def test_reported_lock_that_locks_nothing_on_one_host(
    tmp_path: Path, leave: Leave, nolock: None
) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    leave(pid=process.pid)
    assert f"pid {process.pid} on " in refused(tmp_path)
    process.kill()
    # Dead, and nobody has waited for it.
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    with run_lock(tmp_path):
        pass
    process.communicate()


def test_incident_R5_a_holder_that_is_dead_is_taken_over_without_a_hand(
    tmp_path: Path, leave: Leave
) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for changes in ({}, {"pid_space": "", "kernel": ""}, {"kernel": "of the start before"}):
        leave(pid=process.pid, **changes)
        assert not is_held(tmp_path)
        with run_lock(tmp_path):
            assert read_json(tmp_path / HOLDER)["pid"] == os.getpid()
    # Another process, which began after the lock was taken, has got its number.
    leave(pid=os.getppid(), start="2020-01-01T00:00:00+00:00")
    with run_lock(tmp_path):
        pass
    # Cut by a power failure.
    (tmp_path / HOLDER).write_text('{"pid": 12, "ho', encoding="utf-8")
    with run_lock(tmp_path):
        pass


@posix
def test_a_killed_container_of_this_machine_is_taken_over_where_locks_lock(
    tmp_path: Path, leave: Leave, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start of a container has another host name, and pids of its own."""
    leave(host="c0ffee", pid_space="0badcafe", kernel=lock._kernel("c0ffee"))
    with run_lock(tmp_path):
        pass
    leave(host="c0ffee", pid_space="0badcafe", kernel=lock._kernel("c0ffee"))
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    assert "on c0ffee since" in refused(tmp_path)


@pytest.mark.parametrize("error", [None, ValueError("a bug"), InterruptedRunError(15)])
def test_after_an_end_that_is_no_kill_any_host_may_go_on(
    tmp_path: Path, error: Exception | None
) -> None:
    with suppress(ValueError, InterruptedRunError), run_lock(tmp_path):
        assert (tmp_path / HOLDER).exists()
        if error:
            raise error
    assert not (tmp_path / HOLDER).exists()
