"""This machine and code -> versions, driver and commit, for a result. No path is recorded."""

import logging
import platform
import shutil
import subprocess
from importlib.metadata import distributions
from typing import Any

import torch

logger = logging.getLogger(__name__)


def environment() -> dict[str, Any]:
    """Return Python, packages, CUDA, cuDNN, driver, processor and git commit of this process.

    A part that is missing is None.
    """
    versions: dict[str, str] = {}
    for distribution in distributions():
        # A half-removed package has no name. If two have the same, Python imports the first.
        if name := distribution.metadata["Name"]:
            name = name.lower().replace("_", "-")
            versions.setdefault(name, distribution.metadata["Version"])
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": dict(sorted(versions.items())),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "driver": driver(),
        "commit": commit(),
    }


def driver() -> str | None:
    """Return the version of NVIDIA's driver, or None if its tool is missing or does not answer."""
    if shutil.which("nvidia-smi") is None:
        return None
    done = _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return done.stdout.partition("\n")[0].strip() if done and not done.returncode else None


def commit() -> str | None:
    """Return the commit of the working tree, with `-dirty` when tracked files differ.

    If git names no commit, warn in git's own words and return None.
    """
    done = _run("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    if done is not None and done.returncode == 0:
        return done.stdout.strip()
    why = "git does not run" if done is None else " ".join(done.stderr.split())
    logger.warning("the commit of this code is not recorded: %s", why)
    return None


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
