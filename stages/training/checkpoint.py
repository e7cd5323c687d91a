"""The state of a run on disk: checkpoints and best weights, each whole or absent.

The one before `checkpoint_last.pt` stays as `checkpoint_prev.pt` and is used, with a warning, when
the last is unreadable or missing. `status.json` says in a few bytes how far the last one is. Room
on the disk is asked for before the run; a disk that is full later is waited for, then named.
"""

import logging
import os
import pickle
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save
from torch import nn

from stages.runtime.errors import MAKE_ROOM, UserError, free_bytes, no_room
from stages.runtime.files import (
    remove,
    replace,
    sha256_file,
    sync,
    write_bytes,
    write_json,
    write_with,
)
from stages.training.progress import Scores
from stages.training.run import LAST, PREVIOUS, STATUS

# Files beside the run's may be on their way out.
_WAITS_S = (5.0, 30.0)
_MB = 1_000_000

logger = logging.getLogger(__name__)
T = TypeVar("T")


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) as the last checkpoint.

    The status repeats its `progress` (`epoch`, `batch` and `step` to do next) and, where it is
    known, its `extent` (`epochs` of the run, `num_batches` of an epoch).
    """
    last = folder / LAST

    def write(temporary: Path) -> None:
        # By a file of Python's: torch's own says nothing of a full disk.
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
        # Before the last one is moved: some file systems say here that they are full.
        sync(temporary)
        if last.exists():
            replace(last, folder / PREVIOUS)

    write_with(last, write)
    progress, extent = state["progress"], state.get("extent", {})
    status = {
        "epoch": progress["epoch"],
        "epochs": extent.get("epochs"),
        "batch": progress["batch"],
        "num_batches": extent.get("num_batches"),
        "step": progress["step"],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # After the checkpoint: a status that is older than its checkpoint is known to be out of date.
    write_json(folder / STATUS, status)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Load the newest readable checkpoint to the CPU; None if the run never wrote one."""
    paths = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    for path in paths:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            logger.warning("%s is unreadable (%s)", path.name, error)
            continue
        if path.name == PREVIOUS:
            logger.warning("going on from %s", path.name)
        assert isinstance(state, dict)
        return state
    if paths:
        raise RuntimeError(f"no readable checkpoint in {folder.name}: {[p.name for p in paths]}")
    return None


def describe_kept(folder: Path) -> str:
    """Say which checkpoint a run can go on from."""
    state = load_checkpoint(folder)
    if state is None:
        return "there is no checkpoint yet"
    return f"the checkpoint of step {state['progress']['step']} is kept"


def keep_best(
    model: nn.Module, scores: Scores, *, epoch: int, folder: Path, before: str
) -> dict[str, Any]:
    """Write the best weights under a name of their own; `before` names those that they replace."""
    path = folder / f"best-{epoch:04d}.safetensors"
    tensors = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    write_bytes(path, save(tensors))
    best = {"epoch": epoch, "file": path.name, "sha256": sha256_file(path)}
    return best | {"before": before, "val": scores}


def remove_superseded(folder: Path, *, best: Mapping[str, Any]) -> None:
    """Remove best weights that neither the last nor the previous checkpoint names.

    A checkpoint follows every change of the best, so the previous one names this or the one before.
    """
    for path in folder.glob("best-*.safetensors"):
        if path.name not in {best["file"], best["before"]}:
            remove(path)


def save_with_retries(
    write: Callable[[], T], *, path: Path, num_bytes: int, kept: Callable[[], str]
) -> T:
    """Call `write`, again after a while if the disk is full, and return its result.

    If there is no room at the last try either, the UserError says how much `path` needs, about, and
    what is `kept`.
    """
    for wait in (*_WAITS_S, None):
        try:
            return write()
        except (OSError, RuntimeError) as error:
            if (cause := no_room(error)) is None:
                raise
            why = os.strerror(cause.errno or 0)
            reason = f"{path.as_posix()}: {why}: {_describe_room(path, needed=num_bytes)}"
        if wait is None:
            break
        logger.warning("%s; tried again in %.0f s", reason, wait)
        time.sleep(wait)
    raise UserError(f"{reason}; tried {1 + len(_WAITS_S)} times; {kept()}; {MAKE_ROOM}")


def require_room(
    run: Path, *, models: Path, checkpoint_bytes: int, weights_bytes: int, table_bytes: int
) -> None:
    """Refuse a disk with less room than a run takes at most.

    The folder `run` holds two checkpoints and two best weights, and one more of each while it is
    written. In `models` weights and a table are published beside those that they replace.
    """
    held = sum(file.stat().st_size for file in run.glob("*") if file.is_file())
    working = max(3 * (checkpoint_bytes + weights_bytes) - held, checkpoint_bytes)
    publishing = weights_bytes + table_bytes
    for folder, needed in ((run, working), (models, publishing)):
        if free_bytes(folder) < needed:
            raise UserError(
                f"{folder.as_posix()}: {_describe_room(folder, needed=needed)}: a run keeps two "
                f"checkpoints of {checkpoint_bytes / _MB:.0f} MB and two best weights of "
                f"{weights_bytes / _MB:.0f} MB, writes a third of each, and publishes one; "
                f"{describe_kept(run)}; {MAKE_ROOM}"
            )


def _describe_room(path: Path, *, needed: int) -> str:
    return f"{needed / _MB:.0f} MB needed, {free_bytes(path) / _MB:.0f} MB free"
