"""The state of a run on disk: tensors, numbers and strings, whole or absent.

`checkpoint_last.pt` is written as a temporary file, synced and moved into place; the one before
stays as `checkpoint_prev.pt` and is used, with a warning, when the last is unreadable or missing.
"""

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stages.runtime.files import replace, write_with

LAST, PREVIOUS = "checkpoint_last.pt", "checkpoint_prev.pt"

logger = logging.getLogger(__name__)


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) as the last checkpoint."""
    last = folder / LAST

    def write(temporary: Path) -> None:
        torch.save(dict(state), temporary)
        if last.exists():
            replace(last, folder / PREVIOUS)

    write_with(last, write)


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
