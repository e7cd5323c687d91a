"""The training door with `machine.processes: 2`: real processes, which talk by gloo."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from small_project import ROOT

from stages import train
from stages.runtime.files import read_json
from stages.runtime.lock import run_lock

PUBLISHED = Path("models/stageA/RN18")
# No batch norm, of which each process on a CPU has its own: two processes compute what one does.
BACKBONE = "test_efficientnet_gn"

Project = Callable[..., Path]


@pytest.fixture
def configure(prepared: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project with its manifest, for door processes that find the package."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return partial(prepared, teachers__RN18__backbone=BACKBONE)


def exit_code(*arguments: str) -> int:
    return train.main(["stageA", "RN18", *arguments])


def losses() -> list[float]:
    return [record["train_loss"] for record in read_json(PUBLISHED / "history.json")]


@pytest.mark.parametrize(
    "prior",
    [
        pytest.param({"kind": "logit_adjustment", "tau": 1.0}, id="logit_adjustment"),
        pytest.param({"kind": "class_weights", "beta": 0.9}, id="reported_class_weights"),
    ],
)
def test_two_processes_learn_what_one_does_and_score_every_row_once(
    configure: Project, prior: dict[str, object]
) -> None:
    # By SGD and without a limit on its norm: a factor in the gradient would change the losses.
    recipe = {
        "stageA__prior": prior,
        "stageA__accumulate": 2,
        "stageA__batch_size": 9,
        "teachers__RN18__optimizer": "sgd",
        "stageA__learning_rate": 0.02,
        "stageA__max_grad_norm": 1e6,
    }
    configure(**recipe)
    assert exit_code() == 0
    alone, logits_alone = losses(), pd.read_parquet(PUBLISHED / "logits.parquet")
    configure(machine__processes=2, **recipe)
    assert exit_code("--fresh") == 0
    assert losses() == pytest.approx(alone, rel=1e-3)
    logits = pd.read_parquet(PUBLISHED / "logits.parquet")
    assert logits["id"].tolist() == logits_alone["id"].tolist()
    assert logits["id"].is_unique
    columns = [name for name in logits if name.startswith("logit_")]
    np.testing.assert_allclose(logits[columns], logits_alone[columns], atol=0.05)
    assert read_json(PUBLISHED / "environment.json")["processes"] == 2


def test_a_run_of_two_processes_that_was_killed_goes_on_in_one(configure: Project) -> None:
    configure()
    assert exit_code() == 0
    alone = losses()
    (work,) = Path(".work/stageA/RN18").iterdir()
    (work / "status.json").unlink()
    configure(machine__processes=2, machine__checkpoint_minutes=1e-5)
    command = [sys.executable, "-m", "stages.train", "stageA", "RN18", "--fresh"]
    launcher = subprocess.Popen(command)
    _wait_for_step(work, 5, launcher)
    children = psutil.Process(launcher.pid).children(recursive=True)
    for process in (launcher, *children):
        os.kill(process.pid, signal.SIGKILL)
    launcher.wait()
    psutil.wait_procs(children, timeout=30)
    configure(machine__processes=1)
    assert exit_code() == 0
    assert losses() == pytest.approx(alone, rel=1e-3)
    (later,) = read_json(PUBLISHED / "environment.json")["later_processes"]
    assert later["processes"] == 1
    assert later["step"] >= 5


def test_fewer_val_batches_than_processes_are_scored_by_some_of_them(
    configure: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(machine__processes=2, stageA__batch_size=40, stageA__epochs=1)
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    assert exit_code() == 0
    assert not list(temporary.iterdir()), "the launcher leaves no folder of logs"
    assert pd.read_parquet(PUBLISHED / "logits.parquet")["id"].is_unique


def test_what_stops_a_run_is_said_once(
    configure: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(machine__processes=2, stageA__filter__min_native_px=4000)
    assert exit_code() == 2
    printed = capfd.readouterr().err
    assert printed.count("error: ") == 1
    assert "starting 2 processes" not in printed
    folder = configure()
    assert exit_code() == 0
    configure(machine__processes=2)
    (work,) = (folder / ".work/stageA/RN18").iterdir()
    with run_lock(work):
        assert exit_code() == 3
    assert capfd.readouterr().err.count("another run holds the lock") == 1


def _wait_for_step(work: Path, step: int, launcher: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 180
    status = work / "status.json"
    while not status.exists() or read_json(status)["step"] < step:
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
