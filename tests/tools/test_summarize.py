"""The door on a repository with real experiments of DVC."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools import summarize

pytestmark = pytest.mark.pipeline

STAGE = """\
import json, pathlib, yaml
params = yaml.safe_load(open("params.yaml"))
accuracy = params["rate"] + params["seed"] / 100
pathlib.Path("metrics").mkdir(exist_ok=True)
found = {"taken": "stageA", "stageA": {"RN18": {"temperature": 1.5, "n": 9, "accuracy": accuracy}}}
pathlib.Path("metrics/teachers.json").write_text(json.dumps(found))
pathlib.Path("plots").mkdir(exist_ok=True)
pathlib.Path("plots/teachers.csv").write_text(str(accuracy))
"""
# As export does: what it reads of calibrate differs with the seed.
NEXT = """\
import pathlib
pathlib.Path("models").mkdir(exist_ok=True)
found = [pathlib.Path(one).read_text() for one in ("metrics/teachers.json", "plots/teachers.csv")]
pathlib.Path("models/exported.txt").write_text("".join(found))
"""
PIPELINE = """\
stages:
  calibrate:
    cmd: {python} stages/made.py
    deps: [stages/made.py]
    params: [seed, rate]
    outs: [plots/teachers.csv]
    metrics: [{{metrics/teachers.json: {{cache: false}}}}]
  export:
    cmd: {python} stages/next.py
    deps: [stages/next.py, metrics/teachers.json, plots/teachers.csv]
    outs: [models/exported.txt]
"""


def _run(*command: str, folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    (folder / "stages").mkdir()
    (folder / "stages/made.py").write_text(STAGE)
    (folder / "stages/next.py").write_text(NEXT)
    (folder / "dvc.yaml").write_text(PIPELINE.format(python=Path(sys.executable).as_posix()))
    (folder / "params.yaml").write_text("seed: 1\nrate: 0.5\n")
    dvc = (sys.executable, "-m", "dvc")
    _run("git", "init", "-q", folder=folder)
    _run("git", "config", "user.email", "nobody@example.org", folder=folder)
    _run("git", "config", "user.name", "nobody", folder=folder)
    _run(*dvc, "init", "-q", folder=folder)
    _run(*dvc, "repro", "-q", folder=folder)
    _run("git", "add", "-A", folder=folder)
    _run("git", "commit", "-qm", "first", folder=folder)
    for change in (("seed=2",), ("seed=3",), ("seed=4", "rate=0.7")):
        options = [part for one in change for part in ("-S", one)]
        _run(*dvc, "exp", "run", "-q", *options, folder=folder)
        _run("git", "checkout", "-q", "--", ".", folder=folder)
    return folder


def test_experiments_that_differ_in_their_seed_are_summarized(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    assert summarize.main(["--out", "seeds.json"]) == 0
    printed = capsys.readouterr().out
    assert "3 seeds (1, 2, 3)" in printed
    assert "the only run of its recipe, seed 4" in printed
    (found,) = json.loads((repository / "seeds.json").read_text())["summaries"]
    assert found["metric"] == "stageA.RN18.accuracy"
    assert found["values"] == {"1": 0.51, "2": 0.52, "3": 0.53}
    assert found["mean"] == pytest.approx(0.52)
    half = 4.302653 * 0.01 / 3**0.5
    assert found["interval"] == pytest.approx([0.52 - half, 0.52 + half])


def test_folder_without_dvc_is_the_users_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert summarize.main([]) == 2
    assert capsys.readouterr().err.startswith("error: dvc exp show: ")
