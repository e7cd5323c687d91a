"""How many cores this process may use: the one answer for all that ask."""

import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path

# OpenMP reads the first, so torch; BLAS and pyarrow too.
_VARIABLES = ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "TORCHINDUCTOR_COMPILE_THREADS")
# Which of them this process has set itself.
_own: dict[str, str] = {}
_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")

logger = logging.getLogger(__name__)


def num_cores() -> int:
    """Cores that this process may run on, and not more than it is given time of.

    A container or a job often sees all cores of the host, and is given the time of a few by a quota
    of its cgroup or of one around it; the time of 1.5 cores counts as 2.
    """
    return max(1, min([_affinity(), *(math.ceil(quota) for quota in _quotas())]))


def limit_threads(*, processes: int = 1) -> None:
    """Let libraries start no more threads than there are cores, shared by so many processes.

    Libraries know the affinity, not the quota; call it before they are imported. What the user has
    set stays. One process without a quota is left as it is: the number of torch's threads shows in
    the last bits of what it computes.
    """
    cores, seen = num_cores(), _affinity()
    if processes == 1 and cores == seen:
        return
    if cores < seen:
        logger.info("a quota gives this process the time of %d cores, of %d", cores, seen)
    for name in _VARIABLES:
        if os.environ.get(name) in (None, _own.get(name)):
            os.environ[name] = _own[name] = str(max(1, cores // processes))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """In cores, those of this process's cgroup and of all groups around it that it sees.

    Of version 2, https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files, and of 1.
    """
    lines = _text(_GROUP).splitlines()
    for controllers, path in (line.split(":", 2)[1:] for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = _GROUPS / "cpu" if controllers else _GROUPS
        # Of a group that its container does not show, the path leads nowhere, up to the top.
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            quota, period = _limit(folder)
            if quota > 0:
                yield quota / period
            if folder == top:
                break


def _limit(group: Path) -> tuple[int, int]:
    """Microseconds of a core in each period; without a limit -1."""
    texts = _text(group / "cpu.max").split() or [
        _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us"),
    ]  # fmt: skip
    return (int(texts[0]), int(texts[1])) if texts[0].strip().isdigit() else (-1, 1)


def _text(path: Path) -> str:
    """What a file says; nothing if there is none."""
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""
