"""The identity of a run, the folder in which it works, and which processes trained it.

Same stage, teacher, params, data and initial weights: the same run, resumed. Anything else: another
fingerprint, another folder, a fresh start. Code is left out on purpose; the training version is
raised when a change of code changes the losses of existing params.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stages.config import ClassWeights, Stage
from stages.runtime.files import read_json, replace, sha256_json, work_folder, write_json
from stages.runtime.lock import HOLDER, LOCK, run_lock
from stages.runtime.machine import environment

# Keys that came after runs had begun, at the value that leaves those runs what they are.
_NEUTRAL: dict[str, Any] = {
    "targets": "majority",
    "backbone_options": {},
    "head_learning_rate_scale": 1.0,
    "layer_decay": 1.0,
    "mirror_averaged": False,
    "rotation_deg": 0.0,
    "shift": 0.0,
    "zoom_out": 0.0,
    "low_resolution": 0.0,
    "blur": 0.0,
    "jpeg": 0.0,
    "gamma": 0.0,
    "grey": 0.0,
    "erasing": 0.0,
}

# What differs in a stage for a teacher: the stage's section holds what follows from it.
_IN_THE_STAGE = ("stageA", "stageB")

# Files of a run's folder, besides the best weights and its lock.
IDENTITY, STATUS, ENVIRONMENT_FILE = "identity.json", "status.json", "environment.json"
LAST, PREVIOUS = "checkpoint_last.pt", "checkpoint_prev.pt"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One training run and its working folder."""

    stage: str
    teacher: str
    fingerprint: str
    folder: Path
    identity: dict[str, Any] = field(repr=False)


def open_run(
    stage: str,
    *,
    teacher: str,
    version: int,
    params: Mapping[str, object],
    data: Mapping[str, str],
    init_sha256: str,
) -> Run:
    """Name the run that these inputs define; nothing is written before it is held.

    `params` are the sections and values that dvc.yaml lists for the stage, as the teacher has them:
    what differs for it in the stage is in the stage's section, not in its own. `data` are SHA-256
    of the manifest, of the chosen rows' ids and of each shard, `init_sha256` that of the initial
    weights, or empty.
    """
    plain = {
        key: _told(value.model_dump(mode="json")) if isinstance(value, BaseModel) else value
        for key, value in params.items()
    }
    identity = {
        # Every fingerprint covers this key: another name would begin all runs anew.
        "recipe_version": version,
        "stage": stage,
        "teacher": teacher,
        "params": plain,
        "data": dict(data),
        "init_sha256": init_sha256,
    }
    fingerprint = sha256_json(identity)
    folder = work_folder(stage, teacher) / fingerprint[:16]
    return Run(stage, teacher, fingerprint, folder, identity | {"fingerprint": fingerprint})


def _told(section: dict[str, Any]) -> dict[str, Any]:
    """Leave out what changes nothing; a backbone's options have names of their own."""
    return {
        key: _told(value) if key == "augmentation" else value
        for key, value in section.items()
        if key not in _IN_THE_STAGE and (key not in _NEUTRAL or value != _NEUTRAL[key])
    }


def training_version(stage_params: Stage) -> int:
    """Return the version of the training rules for these params.

    It is raised for exactly the params whose losses a change of code changes.
    2: class weights over several batches of a step. In version 1 each batch was divided by the
    weights of its own rows.
    """
    is_weighted = isinstance(stage_params.prior, ClassWeights)
    return 2 if is_weighted and stage_params.accumulate > 1 else 1


@contextmanager
def hold(run: Run) -> Iterator[None]:
    """Hold the lock on the run's folder, which is made if needed, as `run_lock`."""
    with run_lock(run.folder):
        write_json(run.folder / IDENTITY, run.identity)
        yield


def set_aside(run: Run) -> None:
    """Move all that a held run has learnt to `<fingerprint>.old-<UTC>`, so that it begins anew.

    If it is cut short at any file, the run still resumes or begins anew, and nothing is lost.
    """
    files = [path for path in kept_files(run.folder) if path.name != IDENTITY]
    if not files:
        logger.info("nothing to set aside: this run has not begun")
        return
    old = run.folder.with_name(f"{run.folder.name}.old-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    old.mkdir()
    shutil.copy2(run.folder / IDENTITY, old)
    for path in files:
        replace(path, old / path.name)
    logger.info("a fresh start: what this run had learnt is in %s", old.as_posix())


def kept_files(folder: Path) -> list[Path]:
    """List all files of a run's folder but its lock, in an order in which they can be removed.

    Checkpoints come first, the previous before the last: weights outlive the checkpoints that name
    them, so a removal that is cut short leaves a run that resumes or begins anew.
    """
    first = [folder / name for name in (PREVIOUS, LAST) if (folder / name).exists()]
    others = {path for path in folder.iterdir() if path.name not in (LOCK, HOLDER)}
    return [*first, *sorted(others - set(first))]


def record_environment(folder: Path, *, step: int, computing: Mapping[str, Any]) -> None:
    """Write what the process that begins the run computes with, and what later ones change.

    A process that goes on with step 0 begins the run. Of a later process only the packages whose
    version has changed are kept. `computing` is what changes the bits of a run, such as device and
    precision: a change of it is also logged as a warning.
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
    old, new = before["packages"], now["packages"]
    names = sorted({*old, *new})
    # None stands for a package that is gone.
    now["packages"] = {name: new.get(name) for name in names if new.get(name) != old.get(name)}
    before["packages"] = {}
    changed = {name: value for name, value in now.items() if value != before.get(name)}
    if not changed:
        return
    start = datetime.now(UTC).isoformat(timespec="seconds")
    later.append({"start": start, "step": step, **changed})
    write_json(path, recorded | {"later_processes": later})
    known = [name for name in computing if name in changed and name in before]
    if moved := [f"{name} {before[name]} -> {now[name]}" for name in known]:
        text = (
            "resumed on another machine at step %d: %s; bits may differ from a run without a stop"
        )
        logger.warning(text, step, ", ".join(moved))
