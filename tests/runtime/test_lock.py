"""One writer per folder, named to whoever comes second; no lock outlives its process."""

import contextlib
import errno
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from stages.runtime import lock
from stages.runtime.errors import InterruptedRunError, LockHeldError, UserError
from stages.runtime.files import read_json, write_json
from stages.runtime.lock import HOLDER, describe_holder, is_held, removal_lock, run_lock
from tests.runtime.children import running

posix = pytest.mark.skipif(sys.platform == "win32", reason="another call locks there")
HALF = ".checkpoint_last.pt.tmp-0badcafe-7"
CODE = "import sys; from pathlib import Path; from stages.runtime.lock import *\n"
HOLD = CODE + "with run_lock(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
ASK = CODE + "while True: is_held(Path(sys.argv[1])); print(flush=True)"
Leave = Callable[..., None]


def take(folder: Path) -> None:
    with run_lock(folder):
        assert read_json(folder / HOLDER)["pid"] == os.getpid()


def test_incident_R4_a_second_run_is_refused_and_R5_a_killed_one_leaves_no_lock(
    tmp_path: Path,
) -> None:
    assert not is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert describe_holder(tmp_path) == "holder unknown (it is just starting)"
    with running(HOLD, tmp_path) as (pid, _):
        (tmp_path / HALF).touch()
        for _ in range(2):  # neither a refused run nor a question may touch the holder's record
            with pytest.raises(LockHeldError, match=f"pid {pid} on "):
                take(tmp_path)
            assert is_held(tmp_path)
        assert (tmp_path / HALF).exists()
    # Its record is still there, and says nothing any more.
    assert (tmp_path / HOLDER).exists()
    assert not is_held(tmp_path)
    # What it left half-written goes.
    (tmp_path / "toy" / ".abc.tmp-0badcafe-7").mkdir(parents=True)
    for name in ("checkpoint_last.pt", "toy/.abc.tmp-0badcafe-7/faces"):
        (tmp_path / name).touch()
    take(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"checkpoint_last.pt", "toy", ".run.lock"}


def test_asking_whether_a_lock_is_held_turns_no_run_away(tmp_path: Path) -> None:
    take(tmp_path)
    with running(ASK, tmp_path):
        for _ in range(200):
            take(tmp_path)


def test_a_folder_stays_with_what_its_removal_left(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with removal_lock(tmp_path):
        assert is_held(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_two_never_hold_a_folder_that_is_removed_again_and_again(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    names = ("run_lock", "run_lock", "removal_lock")
    workers = [context.Process(target=work_alone, args=(tmp_path / "run", name)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def work_alone(folder: Path, name: str) -> None:
    """Fails if another process works in the folder at the same time."""
    # Ask all the time instead of now and then: only so do they meet where it matters.
    lock._PATIENCE_S = 0.0
    marker = folder.with_name("someone-works")
    done = 0
    while done < 300:
        with contextlib.suppress(LockHeldError), getattr(lock, name)(folder):
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            time.sleep(0.0005)
            marker.unlink()
            done += 1


@posix
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOLCK])
def test_a_file_system_without_locks_or_to_read_only_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_args: object) -> None:
        raise OSError(number, os.strerror(number))

    take(tmp_path)
    monkeypatch.setattr("fcntl.flock", flock)
    for ask in (take, is_held):
        with pytest.raises(UserError, match=r"cannot be locked: .*has locks"):
            ask(tmp_path)


# --- locks that lock nothing: a holder that may be at work is not run over, a dead one is --------


@pytest.fixture
def leave(tmp_path: Path) -> Leave:
    """A function that leaves the file of a holder which got no chance to end cleanly."""
    with run_lock(tmp_path):
        record = read_json(tmp_path / HOLDER)

    def fill(**changes: Any) -> None:
        write_json(tmp_path / HOLDER, record | changes)

    return fill


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "nodeA", "pid_space": "0badcafe", "kernel": "0123456789abcdef"},
        # A container, as it calls itself after any start, on whichever machine.
        {"pid_space": "0badcafe", "kernel": "0123456789abcdef"},
        {"host": "nodeA", "pid_space": "", "kernel": ""},
    ],
)
def test_reported_lock_that_locks_nothing_between_hosts(
    tmp_path: Path, leave: Leave, changes: dict[str, str]
) -> None:
    leave(**changes, command="train stageA B3")
    before = (tmp_path / HOLDER).read_bytes()
    with pytest.raises(LockHeldError) as error, removal_lock(tmp_path):
        pass
    assert error.value.exit_code == 3
    host = read_json(tmp_path / HOLDER)["host"]
    assert f"pid {os.getpid()} on {host} since " in str(error.value)
    assert "train stageA B3" in str(error.value)
    assert is_held(tmp_path)
    assert (tmp_path / HOLDER).read_bytes() == before
    # The remedy that the message names.
    assert f"remove {(tmp_path / HOLDER).as_posix()} and start again" in str(error.value)
    (tmp_path / HOLDER).unlink()
    take(tmp_path)


@posix
def test_reported_lock_that_locks_nothing_on_one_host(
    tmp_path: Path, leave: Leave, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A killed container of this machine, with a host name and pids of its own, is taken over.
    container = {"host": "c0ffee", "pid_space": "0badcafe", "kernel": lock._kernel("c0ffee")}
    leave(**container)
    take(tmp_path)
    # As NFS with nolock: whoever asks gets every lock.
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    leave(**container)
    with pytest.raises(LockHeldError, match="on c0ffee since"):
        take(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        leave(pid=process.pid)
        with pytest.raises(LockHeldError, match=f"pid {process.pid} on "):
            take(tmp_path)
        process.kill()
        # Dead, and nobody has waited for it.
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        take(tmp_path)


def test_incident_R5_a_holder_that_is_dead_is_taken_over_without_a_hand(
    tmp_path: Path, leave: Leave
) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for changes in ({}, {"pid_space": "", "kernel": ""}, {"kernel": "of the start before"}):
        leave(pid=process.pid, **changes)
        assert not is_held(tmp_path)
        take(tmp_path)
    # Another process, which began after the lock was taken, has got its number.
    leave(pid=os.getppid(), start="2020-01-01T00:00:00+00:00")
    take(tmp_path)
    # Cut by a power failure.
    (tmp_path / HOLDER).write_text('{"pid": 12, "ho', encoding="utf-8")
    take(tmp_path)
    # After an end that is no kill any host may go on.
    for error in (ValueError("a bug"), InterruptedRunError(15)):
        with pytest.raises(type(error)), run_lock(tmp_path):
            assert (tmp_path / HOLDER).exists()
            raise error
        assert not (tmp_path / HOLDER).exists()
