"""A project of this dvc.yaml and this code in a folder of its own: to run, to kill, to compare."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from stages.runtime.files import read_json, sha256_file, sha256_json
from stages.training.progress import CLOCK_KEYS

ROOT = Path(__file__).parents[1]
PATIENCE_S = 3600.0
# The moment before DVC names its first stage.
START = "start of dvc"
STAGE_LINE = re.compile(r"^(?:Running stage|Stage) '([^']+)'", re.MULTILINE)
_OUTS = ("standardized", "manifests", "models", "metrics", "plots")
_CLOCK_FILES = {"environment.json", "latency.json", "report.html"}
_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


class Repository:
    """A git and DVC repository with the project's code; `fill` adds params.yaml and raw pictures.

    It begins with one commit, an empty cache and no outs. Its commands get `environment` on top.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fill: Callable[[Path], None],
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._environment = environment or {}
        for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, folder / name)
        no_caches = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "stages", folder / "stages", ignore=no_caches)
        shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
        for name in ("config", ".gitignore"):
            shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
        (folder / "plots").mkdir()
        shutil.copy(ROOT / "plots/seeds.csv", folder / "plots")
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
        """Return what a command prints that must succeed."""
        return self._finish(command, succeeds=True)

    def fail(self, *command: str) -> str:
        """Return what a command prints that must fail."""
        return self._finish(command, succeeds=False)

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command of this environment in the repository."""
        author = {"NAME": "test", "EMAIL": "test@example.org"}
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            **{f"GIT_AUTHOR_{key}": value for key, value in author.items()},
            **{f"GIT_COMMITTER_{key}": value for key, value in author.items()},
        }
        settings: dict[str, Any] = {
            "cwd": self.folder,
            "env": environment | self._environment,
            "text": True,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
        }
        return subprocess.Popen(command, **settings | options)

    def processes(self) -> list[psutil.Process]:
        """List the processes whose current folder is the repository or lies below it."""
        processes = []
        for process in psutil.process_iter():
            with suppress(*_GONE):
                if Path(process.cwd()).is_relative_to(self.folder):
                    processes.append(process)
        return processes

    def doors(self) -> list[psutil.Process]:
        """List the doors that are at work in the repository."""
        return [process for process in self.processes() if _is_door(process)]

    def _finish(self, command: tuple[str, ...], *, succeeds: bool) -> str:
        process = self.popen(*command)
        output, _ = process.communicate(timeout=600)
        assert (process.returncode == 0) == succeeds, output  # noqa: S101 - states an invariant
        return output


class Started:
    """A command that runs in a process group of its own, with what it prints in a file.

    In a file, since a worker of DVC's queue outlives the command that starts it.
    """

    def __init__(self, repository: Repository, *command: str, output: str = "output.txt") -> None:
        self._output = repository.folder.with_name(output)
        with self._output.open("w", encoding="utf-8") as file:
            self._process = repository.popen(*command, stdout=file, start_new_session=True)

    def text(self) -> str:
        """Return what has been printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def stages(self) -> list[str]:
        """List the stages that DVC has named so far, run or skipped, in order."""
        return STAGE_LINE.findall(self.text())

    def doors(self) -> list[psutil.Process]:
        """List the doors that the command waits for: at most one, and none between two stages."""
        return [child for child in _children(self._process.pid) if _is_door(child)]

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Wait for the end and return the exit code."""
        return self._process.wait(timeout)

    def wait_until(self, is_so: Callable[[], bool]) -> bool:
        """Wait until something is so; False if the command ends before it."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            if self._process.poll() is not None:
                return is_so()
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited in vain; so far:\n{self.text()}")
            time.sleep(0.01)
        return True

    def reaches(self, stage: str, *, after_s: float) -> bool:
        """Wait for a time after DVC first names a stage; False if the command ends before it."""
        if stage != START and not self.wait_until(lambda: stage in self.stages()):
            return False
        try:
            self.wait(after_s)
        except subprocess.TimeoutExpired:
            return True
        return False

    def kill(self, victim: str) -> str:
        """Kill the door, DVC or their group; returns which: between doors it is DVC."""
        doors = self.doors()
        if victim == "door" and not doors:
            victim = "dvc"
        if victim == "door":
            doors[0].kill()
        elif victim == "dvc":
            self._process.kill()
        elif hasattr(os, "killpg"):
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            for process in (*_children(self._process.pid), self._process):
                process.kill()
        self.wait()
        return victim


def hash_published(folder: Path) -> dict[str, str]:
    """Hash each published file, without what the clock and the machine decide.

    These are environment.json, latency.json and the page, and by their keys the times and rates in
    other JSON files.
    """
    paths = [path for out in _OUTS for path in (folder / out).rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): (
            sha256_json(_without_clock(read_json(path)))
            if path.suffix == ".json"
            else sha256_file(path)
        )
        for path in sorted(paths)
        if path.name not in _CLOCK_FILES
    }


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Name the files that are missing, too many or different."""
    return [name for name in sorted(found | expected) if found.get(name) != expected.get(name)]


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clock(part) for key, part in value.items() if key not in CLOCK_KEYS}
    if isinstance(value, list):
        return [_without_clock(part) for part in value]
    return value


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _is_door(process: psutil.Process) -> bool:
    with suppress(*_GONE):
        command = process.cmdline()
        return "-m" in command and any(part.startswith("stages.") for part in command)
    return False
