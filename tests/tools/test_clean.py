"""The cleaning door: what it lists, what it removes, and what it leaves alone."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_project import IMAGES, draw, small_params, write_params

from stages import manifest, standardize, train
from stages.runtime.files import read_json
from stages.runtime.lock import is_held, run_lock
from tools import clean

ROOT = Path(__file__).parents[2]
Project = Callable[..., Path]
TRAIN = [sys.executable, "-m", "stages.train", "stageA", "RN18"]
# Starts what it is told with its output in a pipe, says its pid, and waits.
PARENT = "import subprocess, sys, time\n"
PARENT += "child = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE)\n"
PARENT += "print(child.pid, flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with stage A's RN18 trained and published, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    draw(folder / "raw" / "toy", images=IMAGES)
    write_params(folder, small_params(stageA__epochs=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert standardize.main([]) == 0
        assert manifest.main([]) == 0
        assert train.main(["stageA", "RN18"]) == 0
    return folder


@pytest.fixture
def trained(project: Project, trained_once: Path) -> Path:
    """A copy of it; the current folder."""
    folder = project(stageA__epochs=2)
    for name in ("standardized", "manifests", "models", ".work"):
        shutil.copytree(trained_once / name, folder / name)
    return folder


def run_folder(folder: Path) -> Path:
    (found,) = (folder / ".work" / "stageA" / "RN18").glob("?" * 16)
    return found


def files_below(folder: Path) -> dict[str, bytes]:
    """All files but locks and their holders."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in found if path.name not in (".run.lock", "holder.json")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def wait_for(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def working(folder: Path) -> Iterator[int]:
    """A process that holds the lock of a folder; its pid."""
    code = "import sys; from pathlib import Path; from stages.runtime.lock import run_lock\n"
    code += "with run_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("options", [[], ["--finished"], ["stageA/RN18/0123"], ["--dry-run"]])
def test_without_work_there_is_nothing_to_do(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert clean.main(options) == 0
    assert capsys.readouterr().out == "nothing in .work\n"
    assert list(tmp_path.iterdir()) == []


def test_the_list_says_how_far_each_run_is_and_changes_nothing(
    trained: Path, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_below(trained)
    assert clean.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(
        r"stage +teacher +fingerprint +state +epoch +size +last write +held by", lines[0]
    )
    name = run_folder(trained).name
    assert re.match(rf"stageA +RN18 +{name} +finished +2 of 2 +[\d.]+ MB +\d+ min ago$", lines[1])
    assert re.match(r"standardize +toy +[0-9a-f]{16} +finished +- ", lines[2])
    assert lines[3].startswith("2 in .work: ")
    assert files_below(trained) == before


def test_incident_R3_a_run_in_use_is_refused_and_its_holder_named(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(trained)
    other = run.with_name("0" * 16)
    other.mkdir()
    (other / "checkpoint_last.pt").touch()
    before = files_below(run)
    with working(run) as pid:
        assert clean.main([]) == 0
        assert f"pid {pid} on " in capsys.readouterr().out
        for option in (["--finished"], ["--older-than", "0", "--dry-run"]):
            assert clean.main(option) == 0
        assert clean.main([run.name, "0000"]) == 3
        printed = capsys.readouterr()
        assert f"another run holds the lock: pid {pid} on " in printed.err
        assert f"kept stageA/RN18/{run.name}: " in printed.out
        assert "Traceback" not in printed.err
        assert files_below(run) == before
        # A run that was named beside it is gone all the same.
        assert not other.exists()
    # Killed: its record is still there, and holds nothing.
    capsys.readouterr()
    assert clean.main([]) == 0
    assert "pid" not in capsys.readouterr().out
    assert clean.main([run.name]) == 0
    assert not run.exists()


def test_finished_runs_go_and_others_stay(trained: Path, project: Project) -> None:
    first = run_folder(trained)
    project(stageA__epochs=2, stageA__learning_rate=2e-3)
    assert train.main(["stageA", "RN18"]) == 0
    (second,) = set(first.parent.iterdir()) - {first}
    outside = files_below(trained / "models")
    (second / "status.json").write_text((second / "status.json").read_text().replace("2", "1", 1))
    copies = files_below(trained / ".work" / "standardize")
    # models/ holds the second now, of which an epoch is to do.
    assert clean.main(["--finished"]) == 0
    assert first.exists()
    assert second.exists()
    (second / "status.json").unlink()
    assert clean.main(["--finished", "--dry-run"]) == 0
    assert second.exists()
    assert clean.main(["--finished"]) == 0
    assert first.exists()
    assert not second.exists()
    assert files_below(trained / "models") == outside
    assert files_below(trained / ".work" / "standardize") == copies
    # What is gone is made anew, from its first epoch on.
    assert train.main(["stageA", "RN18"]) == 0


def test_old_runs_go_whatever_their_state(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(trained)
    days_ago = time.time() - 10 * 86_400
    for path in run.iterdir():
        os.utime(path, (days_ago, days_ago))
    assert clean.main(["--older-than", "11"]) == 0
    assert run.exists()
    assert clean.main(["--older-than", "9.5", "--dry-run"]) == 0
    assert f"would remove stageA/RN18/{run.name}: " in capsys.readouterr().out
    assert run.exists()
    assert clean.main(["--older-than", "9.5"]) == 0
    assert f"removed stageA/RN18/{run.name}: " in capsys.readouterr().out
    assert not run.exists()
    assert (trained / ".work" / "standardize" / "toy").is_dir()


def test_an_unknown_name_is_exit_code_2_and_removes_nothing(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(trained)
    assert clean.main([run.name, "stageA/B3/0123"]) == 2
    message = capsys.readouterr().err
    assert "'stageA/B3/0123' fits nothing in .work; known: " in message
    assert f"stageA/RN18/{run.name}" in message
    assert run.exists()


@pytest.mark.parametrize(
    "options", [["--finished", "--older-than", "3"], ["0123", "--finished"], ["--older-than", "-1"], ["--older-than", "nan"]]
)  # fmt: skip
def test_two_ways_to_choose_or_no_number_are_exit_code_2(options: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        clean.main(options)
    assert ended.value.code == 2


def test_what_killed_processes_left_goes_in_work_and_is_named_elsewhere(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = run_folder(trained) / ".best.safetensors.tmp-0badcafe-1"
    outside = trained / "models" / "stageA" / ".RN18.tmp-0badcafe-1"
    inside.touch()
    outside.mkdir()
    assert clean.main(["--dry-run"]) == 0
    assert f"would remove half-written {inside.relative_to(trained).as_posix()}" in (
        capsys.readouterr().out
    )
    assert inside.exists()
    assert clean.main([]) == 0
    printed = capsys.readouterr().out
    assert f"removed half-written {inside.relative_to(trained).as_posix()}" in printed
    assert "when its writer runs again: models/stageA/.RN18.tmp-0badcafe-1" in printed
    assert not inside.exists()
    assert outside.exists()


def test_a_fresh_start_trains_anew_keeps_what_was_and_is_refused_in_use(
    trained: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = run_folder(trained)
    before, published = files_below(run), files_below(trained / "models")
    with run_lock(run):
        assert train.main(["stageA", "RN18", "--fresh"]) == 3
    assert "another run holds the lock: pid " in capsys.readouterr().err
    assert files_below(run) == before
    assert [path.name for path in run.parent.iterdir()] == [run.name]
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
    assert old.exists()
    capsys.readouterr()
    assert clean.main([]) == 0
    assert re.search(rf"{old.name} +set aside +2 of 2 ", capsys.readouterr().out)
    assert clean.main([f"stageA/RN18/{old.name}"]) == 0
    assert not old.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a child does not outlive its console there")
def test_incident_R4_a_trainer_outlives_its_killed_parent_and_a_second_is_refused(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project(stageA__epochs=5000)
    assert standardize.main([]) == 0
    assert manifest.main([]) == 0
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *TRAIN], cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    runs = folder / ".work" / "stageA" / "RN18"
    try:
        wait_for(lambda: any(runs.glob("*/status.json")))
        run = run_folder(folder)
        parent.kill()
        parent.wait()
        step = read_json(run / "status.json")["step"]
        second = subprocess.run(
            TRAIN, cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )
        assert second.returncode == 3
        assert f"another run holds the lock: pid {pid} on " in second.stderr
        assert clean.main([run.name]) == 3
        assert f"pid {pid} on " in capsys.readouterr().err
        # It goes on, though nobody reads what it says.
        wait_for(lambda: read_json(run / "status.json")["step"] > step)
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not is_held(run))
    assert clean.main([]) == 0
    assert re.search(rf"{run.name} +interrupted +[\d.]+ of 5000 ", capsys.readouterr().out)
