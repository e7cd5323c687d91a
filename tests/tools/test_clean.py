"""The cleaning door: what it lists, what it removes, and what it leaves alone."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from small_project import ROOT

from stages import train
from stages.runtime.files import read_json
from stages.runtime.lock import is_held, run_lock
from tools import clean

TRAIN = ["stageA", "RN18"]
# Starts what it is told with its output in a pipe, says its pid, and waits.
PARENT = "import subprocess, sys, time\n"
PARENT += "child = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE)\n"
PARENT += "print(child.pid, flush=True); time.sleep(600)"


def run_folder(folder: Path) -> Path:
    (run,) = (folder / ".work" / "stageA" / "RN18").glob("?" * 16)
    return run


def files_below(folder: Path) -> dict[str, bytes]:
    """All files but locks and their holders."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in paths if path.name not in (".run.lock", "holder.json")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def test_without_work_or_a_clear_choice_nothing_is_done(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    for options in ([], ["--finished"], ["stageA/RN18/0123"], ["--dry-run"]):
        assert clean.main(options) == 0
        assert capsys.readouterr().out == "nothing in .work\n"
    assert list(tmp_path.iterdir()) == []
    two_ways = (["--finished", "--older-than", "3"], ["0123", "--finished"])
    for options in (*two_ways, ["--older-than", "-1"], ["--older-than", "nan"]):
        with pytest.raises(SystemExit) as ended:
            clean.main(options)
        assert ended.value.code == 2


def test_a_fresh_start_sets_aside_what_was_and_what_is_chosen_goes_and_nothing_else(
    prepared: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    project = prepared(stageA__epochs=2)
    assert train.main(TRAIN) == 0
    run, published = run_folder(project), files_below(project / "models")
    before = files_below(run)
    assert clean.main([]) == 0
    title, of_run, of_copy, total = capsys.readouterr().out.splitlines()
    assert re.match(r"stage +teacher +fingerprint +state +epoch +size +last write +held by", title)
    assert re.match(rf"stageA +RN18 +{run.name} +finished +2 of 2 +[\d.]+ MB +\d+ min ago$", of_run)
    assert re.match(r"standardize +toy +[0-9a-f]{16} +finished +- ", of_copy)
    assert total.startswith("2 in .work: ")

    with run_lock(run):
        assert train.main([*TRAIN, "--fresh"]) == 3
    assert "another run holds the lock: pid " in capsys.readouterr().err
    assert files_below(run) == before
    assert train.main([*TRAIN, "--fresh"]) == 0
    (old,) = run.parent.glob("*.old-*")
    assert files_below(old) == before
    weights = "stageA/RN18/best.safetensors"
    assert files_below(project / "models")[weights] == published[weights]

    before = files_below(project)
    assert clean.main(["--finished", "--dry-run"]) == 0
    assert f"would remove stageA/RN18/{run.name}: " in capsys.readouterr().out
    assert files_below(project) == before
    assert clean.main(["--finished"]) == 0
    assert f"removed stageA/RN18/{run.name}: " in capsys.readouterr().out
    gone = f"{run.relative_to(project).as_posix()}/"
    assert files_below(project) == {n: d for n, d in before.items() if not n.startswith(gone)}
    assert clean.main([]) == 0
    assert re.search(rf"{old.name} +set aside +2 of 2 ", capsys.readouterr().out)
    assert clean.main([f"stageA/RN18/{old.name}"]) == 0
    assert not old.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a child does not outlive its console there")
def test_incident_R4_a_trainer_outlives_its_killed_parent_and_a_second_is_refused(
    prepared: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepared(stageA__epochs=5000)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, sys.executable, "-m", "stages.train", *TRAIN],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    runs = folder / ".work" / "stageA" / "RN18"

    def wait_for(is_true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not is_true():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    try:
        wait_for(lambda: any(runs.glob("*/status.json")))
        run = run_folder(folder)
        parent.kill()
        parent.wait()
        step = read_json(run / "status.json")["step"]
        for second in (partial(train.main, TRAIN), partial(clean.main, [run.name])):
            assert second() == 3
            assert f"another run holds the lock: pid {pid} on " in capsys.readouterr().err
        # It goes on, though nobody reads what it says.
        wait_for(lambda: read_json(run / "status.json")["step"] > step)
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not is_held(run))
    assert clean.main([]) == 0
    assert re.search(rf"{run.name} +interrupted +[\d.]+ of 5000 ", capsys.readouterr().out)
