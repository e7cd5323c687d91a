"""The identity of a run and the folder in which it works.

Same stage, teacher, params, data and starting weights: the same run, resumed. Anything else:
another fingerprint, another folder, a fresh start. Code is left out on purpose; `RECIPE_VERSION` is
raised when the meaning of the params changes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stages.runtime.files import read_json, sha256_json, work_folder, write_json

RECIPE_VERSION = 1


@dataclass(frozen=True)
class Run:
    """One training run and its working folder `.work/<stage>/<teacher>/<fingerprint>`."""

    stage: str
    teacher: str
    fingerprint: str
    folder: Path


def open_run(
    stage: str, *, teacher: str, params: dict[str, Any], data: dict[str, str], init_sha256: str
) -> Run:
    """Find or make the folder of the run that these inputs define.

    Args:
        params: sections and values that dvc.yaml lists for the stage, by their key.
        data: SHA-256 of the manifest, of the chosen rows' ids and of each shard, by name.
        init_sha256: of the weights to start from; empty when there are none.
    """
    identity = {
        "recipe_version": RECIPE_VERSION,
        "stage": stage,
        "teacher": teacher,
        "params": {key: _plain(value) for key, value in params.items()},
        "data": data,
        "init_sha256": init_sha256,
    }
    fingerprint = sha256_json(identity)
    folder = work_folder(stage, teacher, fingerprint[:16])
    write_json(folder / "identity.json", identity | {"fingerprint": fingerprint})
    return Run(stage, teacher, fingerprint, folder)


def shard_hashes(standardized: Path) -> dict[str, str]:
    """SHA-256 of each shard, as its index states it."""
    return {
        f"{index.parent.name}/{shard}": entry["sha256"]
        for index in sorted(standardized.glob("*/index.json"))
        for shard, entry in read_json(index)["shards"].items()
    }


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
