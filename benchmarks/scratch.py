"""A project of this dvc.yaml and this code in a folder of its own, with nothing else at work."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class Repository:
    """A git and DVC repository with the project's code; `fill` adds params.yaml and raw pictures.

    It begins with one commit, an empty cache, and no outs.
    """

    def __init__(self, folder: Path, *, fill: Callable[[Path], None]) -> None:
        self.folder = folder
        for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, folder / name)
        no_caches = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "stages", folder / "stages", ignore=no_caches)
        (folder / ".dvc").mkdir()
        for name in ("config", ".gitignore"):
            shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
        shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
        (folder / "weights").mkdir()
        (folder / "weights" / ".gitkeep").touch()
        fill(folder)
        self.run("git", "init", "-q", "-b", "main")
        self.commit("start")

    def commit(self, message: str) -> None:
        """Commit all that git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def run(self, *command: str) -> str:
        """What a command prints; it must succeed."""
        done = self.popen(*command)
        output, _ = done.communicate(timeout=600)
        assert done.returncode == 0, output  # noqa: S101 - states an invariant
        return output

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command of this environment in the repository."""
        tools = Path(sys.executable).parent
        environment = os.environ | {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.org",
        }  # fmt: skip
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, stderr=subprocess.STDOUT,
            **streams | options,
        )  # fmt: skip


def fill_sample(folder: Path) -> None:
    """The sample recipe and the sample's raw pictures."""
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(ROOT / "raw" / "sample", folder / "raw" / "sample")
