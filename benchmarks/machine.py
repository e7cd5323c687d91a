"""What a measurement ran on, and how much memory it took."""

import platform
import sys
from importlib.metadata import distributions
from pathlib import Path

import psutil

from stages.runtime.machine import num_cores

_LIBRARIES = ("numpy", "pandas", "pyarrow", "scipy", "dvc")
_GIB = 1 << 30


def describe_machine() -> dict[str, str | int | float]:
    """Cores that this process may use, CPU model, RAM and library versions; no names or paths."""
    import cv2

    versions = {each.metadata["Name"]: each.version for each in distributions()}
    return {
        "cores": num_cores(),
        "cpu": _cpu_model(),
        "ram_gib": round(psutil.virtual_memory().total / _GIB, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "opencv": cv2.__version__,
    } | {name: versions[name] for name in _LIBRARIES if name in versions}


def peak_gib() -> float:
    """The most memory that this process has held so far, mapped files included.

    Linux's `ru_maxrss` would not do: a child takes over that of the process which started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM:"))
        return round(int(line.split()[1]) / (1 << 20), 3)
    if sys.platform == "win32":
        return round(psutil.Process().memory_info().peak_wset / _GIB, 3)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB, 3)


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
