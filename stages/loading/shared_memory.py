"""Shared memory, through which workers hand over their batches: how much there is, and is needed.

A container gets 64 MB of it unless told otherwise.
"""

import shutil
from pathlib import Path

from stages.runtime.errors import UserError

_MOUNT = Path("/dev/shm")  # noqa: S108 - its size is asked for, nothing else
# Of torch's DataLoader: batches that each worker is asked for ahead.
AHEAD = 2
_MB = 1_000_000


def require_shared_memory(batch_bytes: int, *, workers: int, processes: int) -> None:
    """Ask for room for the batches under way and the one that is learnt from.

    Args:
        processes: of this machine, each with as many workers.

    Raises:
        UserError: if there is less.
    """
    free = _free_bytes()
    needed = processes * (AHEAD * workers + 1) * batch_bytes
    if free is not None and free < needed:
        raise too_small(
            f"{workers} workers need {needed / _MB:.0f} MB of shared memory for batches of "
            f"{batch_bytes / _MB:.1f} MB, {free / _MB:.0f} MB of {_MOUNT} are free",
            needed=needed,
        )


def too_small(reason: str, *, needed: int | None = None) -> UserError:
    """The error that says what to do."""
    size = "2g" if needed is None else f"{2 * needed // 10**9 + 1}g"
    return UserError(
        f"params.yaml: machine.workers: {reason}; give the container more (`docker run "
        f"--shm-size={size}`, or `--ipc=host`), or set machine.workers: 0, or fewer"
    )


def _free_bytes() -> int | None:
    """None where shared memory is no file system with a size of its own."""
    return shutil.disk_usage(_MOUNT).free if _MOUNT.is_dir() else None
