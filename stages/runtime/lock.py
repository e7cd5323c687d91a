"""One writer per folder: a lock of the operating system, and a file that names its holder.

Some network file systems grant every lock (NFS with `nolock`). So a free lock is taken only if the
holder named in the file is known to be gone: its process is dead, or it ran under this kernel,
which holds it to its locks. A holder on another machine may be alive for all that can be seen here;
after a clean end or a caught signal the file is gone.
"""

import contextlib
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from stages.runtime.errors import LockHeldError, UserError, no_room
from stages.runtime.files import leftovers, pid_space, remove, sha256_json, write_json

LOCK, HOLDER = ".run.lock", "holder.json"
# `is_held` takes a free lock for a moment, which must turn no starting run away.
_PATIENCE_S = 1.0
_TRIES = 5
# A clock may have been set since: it dates processes anew, not the holder's file.
_CLOCK_STEP_S = 60.0


class Holder(BaseModel):
    """The process that took a lock; `pid_space` says where the pid means something."""

    pid: int
    host: str
    command: str
    start: datetime
    pid_space: str = ""
    kernel: str = ""


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `.run.lock` in `folder`, and remove what killed processes left half-written there.

    Raises:
        LockHeldError: within seconds, naming the holder, when another process has it or may have.
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
    """Hold the lock of a folder that the block empties; lock and folder go with its last file."""
    lock = _take(folder)
    try:
        yield
        remove(folder / HOLDER)
        if sys.platform == "win32":
            # Windows keeps a file that any process has open, so one that goes is nobody's lock.
            lock.release()
        # Elsewhere still held: a process that waits for it then finds that its file has no name.
        with contextlib.suppress(OSError):  # where a new run has begun already
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Return whether a process holds the lock of `folder` now, or may do so on another machine."""
    if not (folder / LOCK).exists():
        return False
    try:
        lock = _acquire(folder, timeout_s=0)
    except Timeout:
        return True
    try:
        return _may_live(folder)
    finally:
        lock.release()


def describe_holder(folder: Path) -> str:
    """Return who took the lock of `folder` last; it counts only while the lock is held."""
    if (holder := _read_holder(folder)) is None:
        return "holder unknown (it is just starting)"
    return f"pid {holder.pid} on {holder.host} since {holder.start.isoformat()}: {holder.command}"


def _take(folder: Path) -> FileLock:
    for _ in range(_TRIES):
        try:
            lock = _acquire(folder, timeout_s=_PATIENCE_S)
        except (FileNotFoundError, FileExistsError):
            # The process that held the lock until now has removed the folder.
            continue
        except Timeout:
            break
        if _may_live(folder):
            lock.release()
            raise LockHeldError(
                folder,
                f"{describe_holder(folder)}; its lock is free, as where locks do not reach other "
                "machines, and from here it cannot be ruled out that it is at work: if it is gone "
                f"for good, remove {(folder / HOLDER).as_posix()} and start again",
            )
        host = socket.gethostname()
        holder = Holder(
            pid=os.getpid(),
            host=host,
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            start=datetime.now(UTC).replace(microsecond=0),
            pid_space=pid_space(),
            kernel=_kernel(host),
        )
        write_json(folder / HOLDER, holder.model_dump(mode="json"))
        return lock
    raise LockHeldError(folder, describe_holder(folder))


def _acquire(folder: Path, *, timeout_s: float) -> FileLock:
    """Make the folder if needed and lock it; a `Timeout` says that another process has the lock."""
    # The other kind of lock is a file that exists, which a killed process would leave behind.
    lock = FileLock(folder / LOCK, fallback_to_soft=False)
    try:
        lock.acquire(timeout=timeout_s)
    except (Timeout, FileNotFoundError, FileExistsError):
        raise
    except (OSError, NotImplementedError) as error:
        if no_room(error):
            raise
        raise UserError(
            f"{folder.as_posix()}: cannot be locked: {error}; "
            "`.work` must lie on a file system that can be written and has locks"
        ) from error
    return lock


def _read_holder(folder: Path) -> Holder | None:
    try:
        return Holder.model_validate_json((folder / HOLDER).read_bytes())
    except (FileNotFoundError, PermissionError, ValidationError):
        # Not written yet; on Windows being replaced; or cut by a power failure.
        return None


def _may_live(folder: Path) -> bool:
    """Return whether the holder in the file may be at work although this process got its lock."""
    if (holder := _read_holder(folder)) is None:
        return False
    if holder.host == socket.gethostname() and holder.pid_space in ("", pid_space()):
        try:
            process = psutil.Process(holder.pid)
            if holder.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                return False
            # A process that reuses the pid of a dead holder began after the lock was taken.
            return bool(process.create_time() <= holder.start.timestamp() + _CLOCK_STEP_S)
        except psutil.NoSuchProcess:
            return False
    # A pid of another place says nothing here.
    if holder.kernel == "" or holder.kernel != _kernel(holder.host):
        return True
    # Of this kernel: where locks lock, a holder that has lost its lock is gone. Ask once more.
    try:
        _acquire(folder, timeout_s=0).release()
    except Timeout:
        return False
    return True


def _kernel(host: str) -> str:
    """Return a hash of this start of the machine; its containers share it. Linux only."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return sha256_json([host, boot.read_text("ascii")])[:16] if boot.exists() else ""
