"""One writer per folder, held by the operating system."""

import contextlib
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from stages.runtime.errors import LockHeldError, UserError
from stages.runtime.files import leftovers, read_json, remove, write_json

LOCK, HOLDER = ".run.lock", "holder.json"
# `is_held` takes a free lock for a moment, which must turn no starting run away.
_PATIENCE_S = 1.0
_TRIES = 5


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `.run.lock` in `folder`. The system drops it when the process dies: it is never stale.

    What killed processes left half-written in the folder is removed first: no one else writes here.

    Raises:
        LockHeldError: within seconds, naming the holder, when another process has it.
        UserError: when the file system is read-only or knows no locks.
    """
    lock = _take(folder)
    try:
        for path in leftovers(folder):
            remove(path)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            remove(folder / HOLDER)
        lock.release()


@contextlib.contextmanager
def removal_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that the block empties; lock and folder go with its last file.

    Raises:
        LockHeldError, UserError: as `run_lock`.
    """
    lock = _take(folder)
    try:
        yield
        remove(folder / HOLDER)
        if sys.platform != "win32":
            # Still held: whoever waits for this lock finds that its file has no name any more.
            _remove_empty(folder)
    finally:
        lock.release()
    if sys.platform == "win32":
        # Windows keeps a file that any process has open, so one that goes is nobody's lock.
        _remove_empty(folder)


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock of `folder` now.

    Raises:
        UserError: when the file system is read-only or knows no locks.
    """
    if not (folder / LOCK).exists():
        return False
    lock = _lock_of(folder)
    try:
        with _plain_errors(folder):
            lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def describe_holder(folder: Path) -> str:
    """Who took the lock of `folder` last, in words; it counts only while the lock is held."""
    try:
        holder = read_json(folder / HOLDER)
    except (FileNotFoundError, PermissionError):
        # Not written yet, or, on Windows, being replaced.
        return "holder unknown (it is just starting)"
    return f"pid {holder['pid']} on {holder['host']} since {holder['start']}: {holder['command']}"


def _take(folder: Path) -> FileLock:
    lock = _lock_of(folder)
    for _ in range(_TRIES):
        try:
            with _plain_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=_PATIENCE_S)
        except (FileNotFoundError, FileExistsError):
            # The folder was removed meanwhile, by who held the lock until now.
            continue
        except Timeout:
            break
        write_json(folder / HOLDER, _holder())
        return lock
    raise LockHeldError(folder, describe_holder(folder))


def _lock_of(folder: Path) -> FileLock:
    # The other kind of lock is a file that exists, which a killed process would leave behind.
    return FileLock(folder / LOCK, fallback_to_soft=False)


@contextlib.contextmanager
def _plain_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except (Timeout, FileNotFoundError, FileExistsError):
        raise
    except (OSError, NotImplementedError) as error:
        raise UserError(
            f"{folder.as_posix()}: cannot be locked: {error}; "
            "`.work` must lie on a file system that can be written and has locks"
        ) from error


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        # Fails where a new run has begun already.
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()


def _holder() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "start": datetime.now(UTC).isoformat(timespec="seconds"),
    }
