"""One writer per folder, named to whoever comes second; no lock outlives its process."""

import contextlib
import errno
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from stages.runtime import lock
from stages.runtime.errors import LockHeldError, UserError
from stages.runtime.lock import HOLDER, describe_holder, is_held, removal_lock, run_lock

HOLD = "import sys; from pathlib import Path; from stages.runtime.lock import run_lock\n"
HOLD += "with run_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    holder = hold(folder)
    try:
        yield holder
    finally:
        holder.kill()
        holder.wait()


def test_incident_R4_a_second_run_is_refused_and_told_who_holds(tmp_path: Path) -> None:
    with held(tmp_path) as holder:
        with pytest.raises(LockHeldError, match=f"pid {holder.pid} on "), run_lock(tmp_path):
            pass
        # The refused run must not have touched the holder's record.
        with pytest.raises(LockHeldError, match=f"pid {holder.pid} on "), run_lock(tmp_path):
            pass


def test_incident_R5_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    holder.kill()
    holder.wait()
    with run_lock(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / HOLDER).read_text(encoding="utf-8")


def test_a_lock_is_held_by_a_process_not_by_a_record_that_it_left(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with held(tmp_path):
        assert is_held(tmp_path)
        assert is_held(tmp_path)
    # Killed: the record is still there, and says nothing any more.
    assert (tmp_path / HOLDER).exists()
    assert not is_held(tmp_path)
    with run_lock(tmp_path):
        pass
    assert not (tmp_path / HOLDER).exists()
    assert not is_held(tmp_path)


def test_who_asks_whether_a_lock_is_held_turns_no_run_away(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        pass
    context = multiprocessing.get_context("spawn")
    asks, stop = context.Event(), context.Event()
    asker = context.Process(target=ask_again_and_again, args=(tmp_path, asks, stop))
    asker.start()
    assert asks.wait(60)
    try:
        for _ in range(200):
            with run_lock(tmp_path):
                pass
    finally:
        stop.set()
        asker.join()
    assert asker.exitcode == 0


def ask_again_and_again(folder: Path, asks: Event, stop: Event) -> None:
    while not stop.is_set():
        is_held(folder)
        asks.set()


def test_a_run_that_just_starts_is_an_unknown_holder(tmp_path: Path) -> None:
    assert describe_holder(tmp_path) == "holder unknown (it is just starting)"


def test_what_is_half_written_goes_when_the_lock_is_taken(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "checkpoint_last.pt").touch()
    (tmp_path / ".checkpoint_last.pt.tmp-0badcafe-7").touch()
    (tmp_path / "toy" / ".abc.tmp-0badcafe-7").mkdir()
    (tmp_path / "toy" / ".abc.tmp-0badcafe-7" / "faces").touch()
    with run_lock(tmp_path):
        pass
    assert {path.name for path in tmp_path.rglob("*")} == {"checkpoint_last.pt", "toy", ".run.lock"}


def test_a_refused_run_removes_nothing(tmp_path: Path) -> None:
    with held(tmp_path):
        half = tmp_path / ".checkpoint_last.pt.tmp-0badcafe-7"
        half.touch()
        with pytest.raises(LockHeldError), run_lock(tmp_path):
            pass
        assert half.exists()


def test_a_folder_that_is_emptied_goes_with_its_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "state").touch()
    with removal_lock(folder):
        assert is_held(folder)
        (folder / "state").unlink()
    assert not folder.exists()


def test_a_folder_that_is_not_empty_stays(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with removal_lock(tmp_path):
        pass
    assert (tmp_path / "state").exists()
    assert not is_held(tmp_path)


def test_two_never_hold_a_folder_that_is_removed_again_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=work_alone, args=(folder, name))
        for name in ("run_lock", "run_lock", "removal_lock")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def work_alone(folder: Path, name: str) -> None:
    """Fails if another process works in the folder at the same time."""
    # Ask all the time instead of now and then: only so do they meet where it matters.
    lock._PATIENCE_S = 0.0
    take = {"run_lock": run_lock, "removal_lock": removal_lock}[name]
    marker = folder.with_name("someone-works")
    done = 0
    while done < 300:
        with contextlib.suppress(LockHeldError), take(folder):
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            time.sleep(0.0005)
            marker.unlink()
            done += 1


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a file system to read only")
def test_a_file_system_to_read_only_is_said_in_words() -> None:
    with (
        pytest.raises(UserError, match="/sys/kernel: cannot be locked: "),
        run_lock(Path("/sys/kernel")),
    ):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="another call locks there")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_args: object) -> None:
        raise OSError(number, os.strerror(number))

    with run_lock(tmp_path):
        pass
    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(UserError, match=r"cannot be locked: .*has locks"), run_lock(tmp_path):
        pass
    with pytest.raises(UserError, match=r"cannot be locked: .*has locks"):
        is_held(tmp_path)
