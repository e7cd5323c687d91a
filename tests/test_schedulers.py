"""The job script of docs/operating.md: its shell is warned, the trainer saves, DVC says so."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_project import ONE_THREAD, ROOT, fill_small

from benchmarks.scratch import Repository
from stages.runtime.files import read_json

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.skipif(sys.platform == "win32", reason="no job scheduler signals there"),
]


def test_reported_a_job_that_its_scheduler_warns_is_saved_and_goes_on(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        fill_small(folder, stageA__epochs=100)

    (tmp_path / "project").mkdir()
    repository = Repository(tmp_path / "project", fill=fill, environment=ONE_THREAD)
    (script,) = re.findall(
        r"```bash\n(#SBATCH.*?)```", (ROOT / "docs" / "operating.md").read_text("utf-8"), re.DOTALL
    )
    assert script.count("dvc repro") == 1
    job = repository.folder / "job.sh"
    job.write_text(script.replace("dvc repro", "dvc repro stageA@RN18"), encoding="utf-8")
    with (tmp_path / "said.txt").open("wb") as file:
        # As Slurm starts it: in a group of its own.
        shell = repository.popen("bash", "job.sh", start_new_session=True, stdout=file)
    try:
        status = _wait_for_status(repository.folder, shell)
        os.kill(shell.pid, signal.SIGUSR1)
        shell.wait(timeout=120)
        said = (tmp_path / "said.txt").read_text("utf-8")
        assert f"interrupted by signal {signal.SIGUSR1:d}; state saved" in said
        assert f"exited with {128 + signal.SIGUSR1}" in said
        assert 0 < read_json(status)["epoch"] < 100
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()


def _wait_for_status(folder: Path, shell: "subprocess.Popen[str]") -> Path:
    """The run's status, when its first epoch is saved."""
    deadline = time.monotonic() + 300
    while not (found := list(folder.glob(".work/stageA/RN18/*/status.json"))):
        assert shell.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found[0]
