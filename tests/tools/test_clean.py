"""The cleaning door: what it lists, what it removes, and what it leaves alone."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest
from small_project import small_params, write_params

from stages import train
from stages.runtime.files import read_json
from stages.runtime.lock import is_held, run_lock
from tools import clean

ROOT = Path(__file__).parents[2]
TRAIN = [sys.executable, "-m", "stages.train", "stageA", "RN18"]
# Starts what it is told with its output in a pipe, says its pid, and waits.
PARENT = "import subprocess, sys, time\n"
PARENT += "child = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE)\n"
PARENT += "print(child.pid, flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def trained_once(manifested: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with stage A's RN18 trained and published, to be copied."""
    folder = tmp_path_factory.mktemp("trained") / "project"
    shutil.copytree(manifested, folder)
    write_params(folder, small_params(stageA__epochs=2))
    with chdir(folder):
        assert train.main(["stageA", "RN18"]) == 0
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it; the current folder."""
    shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


@pytest.mark.parametrize("option", ["--finished", "--older-than"])
def test_what_is_chosen_goes_and_nothing_else(
    trained: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    run = run_folder(trained)
    before = files_below(trained)
    assert clean.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    title = r"stage +teacher +fingerprint +state +epoch +size +last write +held by"
    assert re.match(title, lines[0])
    of_run = rf"stageA +RN18 +{run.name} +finished +2 of 2 +[\d.]+ MB +\d+ min ago$"
    assert re.match(of_run, lines[1])
    assert re.match(r"standardize +toy +[0-9a-f]{16} +finished +- ", lines[2])
    assert lines[3].startswith("2 in .work: ")
    assert clean.main([run.name, "stageA/B3/0123"]) == 2
    message = capsys.readouterr().err
    assert "'stageA/B3/0123' fits nothing in .work; known: " in message
    assert f"stageA/RN18/{run.name}" in message
    days_ago = time.time() - 10 * 86_400
    for path in run.iterdir():
        os.utime(path, (days_ago, days_ago))
    assert clean.main(["--older-than", "11"]) == 0
    choice = [option, *(["9.5"] if option == "--older-than" else [])]
    assert clean.main([*choice, "--dry-run"]) == 0
    assert f"would remove stageA/RN18/{run.name}: " in capsys.readouterr().out
    assert files_below(trained) == before
    assert clean.main(choice) == 0
    assert f"removed stageA/RN18/{run.name}: " in capsys.readouterr().out
    gone = run.relative_to(trained).as_posix()
    assert files_below(trained) == {n: d for n, d in before.items() if not n.startswith(gone)}


def test_a_fresh_start_trains_anew_keeps_what_was_and_is_refused_in_use(
    trained: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = run_folder(trained)
    before, published = files_below(run), files_below(trained / "models")
    with run_lock(run):
        assert train.main(["stageA", "RN18", "--fresh"]) == 3
    assert "another run holds the lock: pid " in capsys.readouterr().err
    assert files_below(run.parent) == {f"{run.name}/{name}": data for name, data in before.items()}
    with caplog.at_level("INFO"):
        assert train.main(["stageA", "RN18", "--fresh"]) == 0
    assert "a fresh start: what this run had learnt is in " in caplog.text
    assert "nothing to train" not in caplog.text
    (old,) = run.parent.glob("*.old-*")
    assert files_below(old) == before
    weights = "stageA/RN18/best.safetensors"
    assert files_below(trained / "models")[weights] == published[weights]
    assert clean.main(["--finished"]) == 0
    assert not run.exists()
    capsys.readouterr()
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
        [sys.executable, "-c", PARENT, *TRAIN],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
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
        second = subprocess.run(TRAIN, cwd=folder, env=environment, capture_output=True, text=True)
        assert second.returncode == 3
        assert f"another run holds the lock: pid {pid} on " in second.stderr
        # A run that is in use stays, however it is chosen; another that was named beside it goes.
        other = run.with_name("0" * 16)
        other.mkdir()
        (other / "checkpoint_last.pt").touch()
        assert clean.main(["--older-than", "0", "--dry-run"]) == 0
        assert clean.main([run.name, "0000"]) == 3
        printed = capsys.readouterr()
        assert f"another run holds the lock: pid {pid} on " in printed.err
        assert f"kept stageA/RN18/{run.name}: " in printed.out
        assert "Traceback" not in printed.err
        assert not other.exists()
        # It goes on, though nobody reads what it says.
        wait_for(lambda: read_json(run / "status.json")["step"] > step)
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not is_held(run))
    assert clean.main([]) == 0
    assert re.search(rf"{run.name} +interrupted +[\d.]+ of 5000 ", capsys.readouterr().out)
