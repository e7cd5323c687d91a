"""Where a result came from: versions, device and commit. No path of a machine is recorded."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "pandas", "pyarrow", "opencv-python",
    "simplejpeg", "scikit-learn", "scipy", "onnx", "onnxruntime", "dvc",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Python, packages, processor and git commit of this process."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the working tree, with `-dirty` when tracked files differ; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
