"""The identity of a run and the folder in which it works.

Same stage, teacher, params, data and starting weights: the same run, resumed. Anything else:
another fingerprint, another folder, a fresh start. Code is left out on purpose; the version of the
training rules is raised when the meaning of the params changes.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stages.config import ClassWeights, Stage
from stages.runtime.files import read_json, replace, sha256_json, work_folder, write_json
from stages.runtime.lock import HOLDER, LOCK, run_lock

# Files of a run's folder, besides the best weights and its lock.
IDENTITY, STATUS = "identity.json", "status.json"
LAST, PREVIOUS = "checkpoint_last.pt", "checkpoint_prev.pt"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One training run and its working folder `.work/<stage>/<teacher>/<fingerprint>`."""

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
    params: dict[str, Any],
    data: dict[str, str],
    init_sha256: str,
) -> Run:
    """The run that these inputs define; nothing is written before it is held.

    Args:
        version: of the training rules, `recipe_version`.
        params: sections and values that dvc.yaml lists for the stage, by their key.
        data: SHA-256 of the manifest, of the chosen rows' ids and of each shard, by name.
        init_sha256: of the weights to start from; empty when there are none.
    """
    identity = {
        "recipe_version": version,
        "stage": stage,
        "teacher": teacher,
        "params": {key: _plain(value) for key, value in params.items()},
        "data": data,
        "init_sha256": init_sha256,
    }
    fingerprint = sha256_json(identity)
    folder = work_folder(stage, teacher) / fingerprint[:16]
    return Run(stage, teacher, fingerprint, folder, identity | {"fingerprint": fingerprint})


def recipe_version(stage: Stage) -> int:
    """The version of the training rules; raised for the runs whose losses a change of code changes.

    2: class weights over several batches of a step. Before, each batch was divided by the weights
    of its own rows.
    """
    return 2 if isinstance(stage.prior, ClassWeights) and stage.accumulate > 1 else 1


@contextmanager
def hold(run: Run) -> Iterator[None]:
    """Be the only one who works in the run's folder, which is made if needed.

    Raises:
        LockHeldError, UserError: as `run_lock`.
    """
    with run_lock(run.folder):
        write_json(run.folder / IDENTITY, run.identity)
        yield


def set_aside(run: Run) -> None:
    """Let a run that is held begin anew: all it has learnt moves to `<fingerprint>.old-<UTC>`.

    Cut short at any file, it leaves a run that goes on or begins anew, and loses nothing.
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
    """All that a run's folder holds but its lock, in an order in which it can be taken away.

    Checkpoints go first, the last after the one before it: weights that a checkpoint names outlive
    it, so that a removal that is cut short leaves a run that goes on or begins anew.
    """
    first = [folder / name for name in (PREVIOUS, LAST) if (folder / name).exists()]
    others = {path for path in folder.iterdir() if path.name not in (LOCK, HOLDER)}
    return [*first, *sorted(others - set(first))]


def shard_hashes(standardized: Path) -> dict[str, str]:
    """SHA-256 of each shard, as its index states it."""
    return {
        f"{index.parent.name}/{shard}": entry["sha256"]
        for index in sorted(standardized.glob("*/index.json"))
        for shard, entry in read_json(index)["shards"].items()
    }


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
