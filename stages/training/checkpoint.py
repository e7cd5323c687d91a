"""The state of a run on disk: tensors, numbers and strings, whole or absent.

`checkpoint_last.pt` is written as a temporary file, synced and moved into place; the one before
stays as `checkpoint_prev.pt` and is used, with a warning, when the last is unreadable or missing.
`status.json` says in a few bytes how far the last one is.
"""

import logging
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from stages.runtime.files import replace, sync, write_json, write_with
from stages.training.run import LAST, PREVIOUS, STATUS

logger = logging.getLogger(__name__)


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) as the last checkpoint.

    Args:
        state: with `progress` (`epoch`, `batch` and `step` to do next) and, where they are known,
            `extent` (`epochs` of the run, `num_batches` of an epoch), which the status repeats.
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
    # After the checkpoint: a status that is older than its checkpoint is known to be out of date.
    write_json(folder / STATUS, _status(state))


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest readable checkpoint, on the CPU; None when the run never wrote one.

    Raises:
        RuntimeError: when there are checkpoints and none can be read.
    """
    found = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    for path in found:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            logger.warning("%s is unreadable (%s)", path.name, error)
            continue
        if path.name == PREVIOUS:
            logger.warning("going on from %s", path.name)
        assert isinstance(state, dict)
        return state
    if found:
        raise RuntimeError(f"no readable checkpoint in {folder.name}: {[p.name for p in found]}")
    return None


def describe_kept(folder: Path) -> str:
    """Which checkpoint a run can go on from."""
    state = load_checkpoint(folder)
    if state is None:
        return "there is no checkpoint yet"
    return f"the checkpoint of step {state['progress']['step']} is kept"


def _status(state: Mapping[str, Any]) -> dict[str, Any]:
    progress, extent = state["progress"], state.get("extent", {})
    return {
        "epoch": progress["epoch"],
        "epochs": extent.get("epochs"),
        "batch": progress["batch"],
        "num_batches": extent.get("num_batches"),
        "step": progress["step"],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
