"""This machine: how many cores this process may use, and what a result was computed with.

In: the affinity of the process, the quotas of its cgroups, its packages, the driver and git. Out:
one number of cores for everything that asks, and versions for a result. No path is recorded.
"""

import logging
import math
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

# OpenMP, and so torch, reads the first; BLAS and pyarrow too.
_VARIABLES = ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "TORCHINDUCTOR_COMPILE_THREADS")
# Those of them that this process has set itself.
_set_here: dict[str, str] = {}
_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")

logger = logging.getLogger(__name__)


def num_cores() -> int:
    """Return the number of cores that this process may run on and has a quota of time for.

    A container or a job often sees all cores of the host, and a quota of its cgroup, or of a group
    around it, gives it the time of a few.
    """
    return max(1, min([_affinity(), *(math.ceil(quota) for quota in _quotas())]))


def num_threads(wanted: int | Literal["auto"]) -> int:
    """Return how many processes or threads work; `auto` means one for each core."""
    return num_cores() if wanted == "auto" else wanted


def limit_threads(*, processes: int = 1) -> None:
    """Let the libraries of `processes` processes together start one thread for each core.

    Libraries know the affinity, not the quota. Call it before they are imported. One process
    without a quota is left as it is: torch's threads show in the last bits of what it computes.
    """
    cores, seen = num_cores(), _affinity()
    if processes == 1 and cores == seen:
        return
    if cores < seen:
        logger.info("a quota gives this process the time of %d cores, of %d", cores, seen)
    for name in _VARIABLES:
        if os.environ.get(name) in (None, _set_here.get(name)):
            os.environ[name] = _set_here[name] = str(max(1, cores // processes))


def environment() -> dict[str, Any]:
    """Return Python, packages, CUDA, cuDNN, driver, processor and git commit; None if missing."""
    # Not at the top: doors count cores before torch may be imported, and answer at once.
    from importlib.metadata import distributions

    import torch

    # A half-removed package has no name. If two have the same, Python imports the first.
    versions = {
        name.lower().replace("_", "-"): each.metadata["Version"]
        for each in reversed([*distributions()])
        if (name := each.metadata["Name"])
    }
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
    done = _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return done.stdout.partition("\n")[0].strip() if done and not done.returncode else None


def commit() -> str | None:
    """Return the commit, with `-dirty` when tracked files differ; warn if git names none."""
    done = _run("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    if done is not None and done.returncode == 0:
        return done.stdout.strip()
    why = "git does not run" if done is None else " ".join(done.stderr.split())
    logger.warning("the commit of this code is not recorded: %s", why)
    return None


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """Yield the quotas, in cores, of this process's cgroup and of the groups around it.

    Of version 2, https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files, and of 1.
    """
    for line in _read(_GROUP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = _GROUPS / "cpu" if controllers else _GROUPS
        # The path of a group that its container does not show leads nowhere, up to the top.
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            # Microseconds of a core in each period; `max` or -1 without a limit.
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            limit = _read(folder / "cpu.max").split() or [_read(folder / name) for name in names]
            if limit[0].strip().isdigit():
                yield int(limit[0]) / int(limit[1])
            if folder == top:
                break


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
