"""Whose `.work` a door uses: that of the project it runs in, however DVC came to start it."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from small_project import ROOT

# A door in small: it leaves its param in `.work`.
DOOR = """\
from pathlib import Path
from stages.runtime.files import work_folder

(work_folder() / Path("params.yaml").read_text().split()[-1]).touch()
"""
PIPELINE = """\
stages:
  door:
    cmd: python door.py
    params: [v]
"""
AROUND = """\
stages:
  night:
    cmd: cd own && dvc repro --force
"""
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
} | {f"GIT_{role}_{key}": "t@t" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project with two projects in it: `own` is one for DVC, too, `plain` is a folder."""
    folder = tmp_path_factory.mktemp("around").resolve()
    run(folder, "git init -q -b main && dvc init -q")
    (folder / "dvc.yaml").write_text(AROUND, encoding="utf-8")
    files = {"dvc.yaml": PIPELINE, "door.py": DOOR, "params.yaml": "v: 0", ".gitignore": ".work\n"}
    for name in ("own", "plain"):
        (folder / name).mkdir()
        for file, text in files.items():
            (folder / name / file).write_text(text, encoding="utf-8")
    run(folder / "own", "dvc init -q --subdir")
    run(folder, "git add -A && git commit -q -m start")
    return folder


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("where", "command", "made"),
    [
        (".", "dvc repro dvc.yaml:night", "own/.work/0"),
        (".", "dvc exp run --temp --force dvc.yaml:night", "own/.work/0"),
        ("own", "dvc exp run -S v=1", "own/.work/1"),
        ("own", "dvc exp run --temp -S v=2", "own/.work/2"),
        ("plain", "dvc repro --force", "plain/.work/0"),
        ("plain", "dvc exp run --queue -S v=5 && dvc queue start", "plain/.work/5"),
    ],
)
def test_reported_dvc_root_of_a_parent(
    around: Path, monkeypatch: pytest.MonkeyPatch, where: str, command: str, made: str
) -> None:
    # As a stage of some other project leaves it.
    monkeypatch.setenv("DVC_ROOT", str(around))
    run(around / where, command)
    deadline = time.monotonic() + 300
    while "queue" in command and "Success" not in (
        output := run(around / where, "dvc queue status")
    ):
        assert time.monotonic() < deadline, output
        time.sleep(0.2)
    files = [path for work in around.rglob(".work") for path in work.iterdir()]
    run(around, "git checkout -q --force main")
    for path in files:
        path.unlink()
    assert files == [around / made]


def run(folder: Path, command: str) -> str:
    """Return what a command line prints that must succeed."""
    # Into a file: a queue's worker outlives who started it.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        environment = os.environ | ENVIRONMENT
        done = subprocess.run(command, shell=True, cwd=folder, env=environment, **streams)
        output.seek(0)
        text = output.read()
    assert done.returncode == 0, text
    assert "Failed" not in text, text
    return text
