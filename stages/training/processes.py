"""Which processes a run was trained by: environment.json of its folder."""

import logging
from datetime import UTC, datetime
from pathlib import Path

from stages.runtime.files import read_json, write_json
from stages.runtime.provenance import environment

ENVIRONMENT_FILE = "environment.json"
# What changes the bits of a run, and its numbers a little.
_COMPUTING = ("device", "dtype")

logger = logging.getLogger(__name__)


def record_process(folder: Path, *, step: int, device: str, dtype: str) -> None:
    """Keep what the process that begins the run computes with, and what each later one has changed.

    Another device or precision is a warning too. A process that finds no step done begins the run.

    Args:
        step: the optimizer step that this process goes on with.
    """
    path = folder / ENVIRONMENT_FILE
    now = environment() | {"device": device, "dtype": dtype}
    if step == 0 or not path.exists():
        write_json(path, now | {"later_processes": []})
        return
    recorded = read_json(path)
    later = recorded.get("later_processes", [])
    before = dict(recorded)
    for process in later:
        before |= process
    changed = {name: value for name, value in now.items() if value != before.get(name)}
    if not changed:
        return
    start = datetime.now(UTC).isoformat(timespec="seconds")
    later = [*later, {"start": start, "step": step, **changed}]
    write_json(path, recorded | {"later_processes": later})
    if moved := [f"{name} {before[name]} -> {now[name]}" for name in _COMPUTING if name in changed]:
        logger.warning(
            "resumed on another machine at step %d: %s; bits and numbers may differ from those of "
            "an undisturbed run",
            step,
            ", ".join(moved),
        )
