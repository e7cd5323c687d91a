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

from stages.runtime.errors import LockHeldError
from stages.runtime.files import read_json, write_json


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `.run.lock` in `folder`. The system drops it when the process dies: it is never stale.

    Raises:
        LockHeldError: at once, naming the holder, when another process has it.
    """
    lock = FileLock(folder / ".run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LockHeldError(folder, describe_holder(folder)) from None
    try:
        write_json(folder / "holder.json", _holder())
        yield
    finally:
        lock.release()


def describe_holder(folder: Path) -> str:
    """Who took the lock of `folder` last, in words."""
    path = folder / "holder.json"
    if not path.exists():
        return "holder unknown (it is just starting)"
    holder = read_json(path)
    return f"pid {holder['pid']} on {holder['host']} since {holder['start']}: {holder['command']}"


def _holder() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "start": datetime.now(UTC).isoformat(timespec="seconds"),
    }
