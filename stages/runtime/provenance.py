"""Where a result came from: versions, device and commit. No path of a machine is recorded."""

import logging
import platform
import shutil
import subprocess
from importlib.metadata import distributions
from typing import Any

import torch

logger = logging.getLogger(__name__)


def environment() -> dict[str, Any]:
    """Python, all packages, CUDA, cuDNN, driver, processor and git commit of this process.

    What there is none of is None.
    """
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": packages(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "driver": driver(),
        "commit": commit(),
    }


def packages() -> dict[str, str]:
    """The version of every package that is installed, by its name in small letters."""
    # Of two by one name the first on the path is the one that is imported.
    found: dict[str, str] = {}
    for one in distributions():
        # Half a package, as a broken installation leaves it, has no name.
        if name := one.metadata["Name"]:
            found.setdefault(name.lower().replace("_", "-"), one.metadata["Version"])
    return dict(sorted(found.items()))


def driver() -> str | None:
    """The version of NVIDIA's driver, where its tool is installed and answers."""
    if shutil.which("nvidia-smi") is None:
        return None
    done = _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return done.stdout.partition("\n")[0].strip() if done and not done.returncode else None


def commit() -> str | None:
    """The commit of the working tree, with `-dirty` when tracked files differ.

    None where git names none; a warning then has git's own words.
    """
    done = _run("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    if done is not None and done.returncode == 0:
        return done.stdout.strip()
    why = "git does not run" if done is None else " ".join(done.stderr.split())
    logger.warning("the commit of this code is not recorded: %s", why)
    return None


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    """What a program said, or None if it could not be started or did not come to an end."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
