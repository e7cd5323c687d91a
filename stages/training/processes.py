"""Which processes a run was trained by: environment.json of its folder."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.runtime.files import read_json, write_json
from stages.runtime.provenance import environment

ENVIRONMENT_FILE = "environment.json"
logger = logging.getLogger(__name__)


def record_process(folder: Path, *, step: int, computing: Mapping[str, Any]) -> None:
    """Keep what the process that begins the run computes with, and what each later one has changed.

    A process that finds no step done begins the run. Of a later one's packages those are kept whose
    version has changed.

    Args:
        step: the optimizer step that this process goes on with.
        computing: what changes the bits of a run and its numbers a little, such as device and
            precision: a change of it is a warning too.
    """
    path = folder / ENVIRONMENT_FILE
    now = environment() | dict(computing)
    if step == 0 or not path.exists():
        write_json(path, now | {"later_processes": []})
        return
    recorded = read_json(path)
    later = recorded.get("later_processes", [])
    before = dict(recorded)
    for process in later:
        before |= process | {"packages": before["packages"] | process.get("packages", {})}
    now["packages"] = _moved(before["packages"], now["packages"])
    before["packages"] = {}
    changed = {name: value for name, value in now.items() if value != before.get(name)}
    if not changed:
        return
    start = datetime.now(UTC).isoformat(timespec="seconds")
    later = [*later, {"start": start, "step": step, **changed}]
    write_json(path, recorded | {"later_processes": later})
    known = [name for name in computing if name in changed and name in before]
    if moved := [f"{name} {before[name]} -> {now[name]}" for name in known]:
        logger.warning(
            "resumed on another machine at step %d: %s; bits and numbers may differ from those of "
            "an undisturbed run",
            step,
            ", ".join(moved),
        )


def _moved(before: Mapping[str, str | None], now: Mapping[str, str]) -> dict[str, str | None]:
    """The packages whose version has changed; None for one that is gone."""
    names = sorted({*before, *now})
    return {name: now.get(name) for name in names if now.get(name) != before.get(name)}
