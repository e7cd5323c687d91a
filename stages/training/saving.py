"""Writing what took hours: room is asked for before, and a full disk is told in words."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from stages.runtime.errors import MAKE_ROOM, UserError, free_bytes, no_room

# What lies beside may be on its way out.
_WAITS_S = (5.0, 30.0)
_MB = 1_000_000

logger = logging.getLogger(__name__)
T = TypeVar("T")


def saved(write: Callable[[], T], *, path: Path, num_bytes: int, kept: Callable[[], str]) -> T:
    """What `write` returns; it is tried again where there is no room for what it writes.

    Args:
        path: the file or folder that it writes.
        num_bytes: about how many it needs.
        kept: says what there is without it.

    Raises:
        UserError: if there is still no room at the last try.
    """
    for wait in (*_WAITS_S, None):
        try:
            return write()
        except (OSError, RuntimeError) as error:
            if (cause := no_room(error)) is None:
                raise
            why = os.strerror(cause.errno or 0)
            reason = f"{path.as_posix()}: {why}: {_described(path, needed=num_bytes)}"
        if wait is None:
            break
        logger.warning("%s; tried again in %.0f s", reason, wait)
        time.sleep(wait)
    raise UserError(f"{reason}; tried {1 + len(_WAITS_S)} times; {kept()}; {MAKE_ROOM}")


def require_room(
    run: Path,
    *,
    models: Path,
    checkpoint_bytes: int,
    weights_bytes: int,
    table_bytes: int,
    kept: Callable[[], str],
) -> None:
    """Ask for the room that a run takes at most.

    Args:
        run: its folder, which holds two checkpoints and two best weights, and one more of each
            while it is written.
        models: the folder that the teacher is published in, beside the one that it replaces.
        table_bytes: of what is published beside the weights.
        kept: says what the run goes on from.

    Raises:
        UserError: if there is less.
    """
    there = sum(file.stat().st_size for file in run.glob("*") if file.is_file())
    working = max(3 * (checkpoint_bytes + weights_bytes) - there, checkpoint_bytes)
    publishing = weights_bytes + table_bytes
    for folder, needed in ((run, working), (models, publishing)):
        if free_bytes(folder) < needed:
            raise UserError(
                f"{folder.as_posix()}: {_described(folder, needed=needed)}: a run keeps two "
                f"checkpoints of {checkpoint_bytes / _MB:.0f} MB and two best weights of "
                f"{weights_bytes / _MB:.0f} MB, writes a third of each, and publishes one; "
                f"{kept()}; {MAKE_ROOM}"
            )


def _described(path: Path, *, needed: int) -> str:
    return f"{needed / _MB:.0f} MB needed, {free_bytes(path) / _MB:.0f} MB free"
