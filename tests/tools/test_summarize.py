"""The door on a repository with real experiments of DVC."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from small_project import ROOT

from tools import summarize

pytestmark = pytest.mark.pipeline

STAGE = """\
import json, pathlib, yaml
params = yaml.safe_load(open("params.yaml"))
numbers = {"temperature": 1.5, "n": 9, "accuracy": params["rate"] + params["seed"] / 100}
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path("metrics/teachers.json").write_text(json.dumps({"stageA": {"RN18": numbers}}))
"""
# The second stage does as export does: what it reads of calibrate differs with the seed.
PIPELINE = """\
stages:
  calibrate:
    cmd: {python} made.py
    deps: [made.py]
    params: [seed, rate]
    metrics: [{{metrics/teachers.json: {{cache: false}}}}]
  export:
    cmd: {python} -c "import shutil; shutil.copy('metrics/teachers.json', 'exported')"
    deps: [metrics/teachers.json]
    outs: [exported]
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("made.py").write_text(STAGE)
    Path("dvc.yaml").write_text(PIPELINE.format(python=Path(sys.executable).as_posix()))
    Path("params.yaml").write_text("seed: 1\nrate: 0.5\n")
    commands = ["git init -q", "git config user.email nobody@example.org"]
    commands += ["git config user.name nobody", "dvc init -q", "dvc repro -q", "git add -A"]
    commands += ["git commit -qm first"]
    for change in ("-S seed=2", "-S seed=3", "-S seed=4 -S rate=0.7"):
        commands += [f"dvc exp run -q {change}", "git checkout -q -- ."]
    for command in commands:
        program, *rest = command.split()
        start = [sys.executable, "-m", "dvc"] if program == "dvc" else [program]
        subprocess.run([*start, *rest], check=True, capture_output=True)
    return tmp_path


def test_experiments_that_differ_in_their_seed_are_summarized(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summarize.main(["--write", "--out", "seeds.json"]) == 0
    printed = capsys.readouterr().out
    assert "3 seeds (1, 2, 3)" in printed
    assert "the only run of its recipe, seed 4" in printed
    (summary,) = json.loads((repository / "seeds.json").read_text())["summaries"]
    assert summary["metric"] == "stageA.RN18.accuracy"
    assert summary["values"] == {"1": 0.51, "2": 0.52, "3": 0.53}
    shutil.copy(ROOT / ".gitignore", repository)
    shown = ["git", "status", "--porcelain", "-uall", "plots"]
    assert subprocess.check_output(shown, text=True) == "?? plots/seeds.csv\n"
    page = pd.read_csv("plots/seeds.csv")
    assert dict(zip(page["seed"], page["value"], strict=True)) == {1: 0.51, 2: 0.52, 3: 0.53}
    assert page["mean"].tolist() == pytest.approx([0.52] * 3)


def test_folder_without_dvc_is_the_users_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert summarize.main([]) == 2
    assert capsys.readouterr().err.startswith("error: dvc exp show: ")
