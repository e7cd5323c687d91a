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
from tests.training.small_run import run_folder

PUBLISHED = Path("models/stageA/RN18")
Project = Callable[..., Path]


@pytest.fixture
def configure(prepared: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project with its manifest, for door processes that find the package."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Batch norm would differ: each process on a CPU has its own.
    return partial(prepared, teachers__RN18__backbone="test_efficientnet_gn")


def exit_code(*arguments: str) -> int:
    return train.main(["stageA", "RN18", *arguments])


def losses() -> list[float]:
    return [record["train_loss"] for record in read_json(PUBLISHED / "history.json")]


def test_reported_two_processes_learn_what_one_does_and_score_every_row_once(
    configure: Project,
) -> None:
    # By SGD and without a limit on its norm: a factor in the gradient would change the losses.
    recipe = {
        "stageA__prior": {"kind": "class_weights", "beta": 0.9},
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
    columns = logits.filter(like="logit_").columns
    np.testing.assert_allclose(logits[columns], logits_alone[columns], atol=0.05)
    assert read_json(PUBLISHED / "environment.json")["processes"] == 2


def test_a_run_of_two_processes_that_was_killed_goes_on_in_one(configure: Project) -> None:
    configure()
    assert exit_code() == 0
    alone = losses()
    status = run_folder(Path.cwd()) / "status.json"
    status.unlink()
    configure(machine__processes=2, machine__checkpoint_minutes=1e-5)
    launcher = subprocess.Popen([sys.executable, "-m", "stages.train", "stageA", "RN18", "--fresh"])
    deadline = time.monotonic() + 180
    while not status.exists() or read_json(status)["step"] < 5:
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
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


def test_what_stops_a_run_is_said_once(
    configure: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(machine__processes=2, stageA__filter__min_native_px=4000)
    assert exit_code() == 2
    printed = capfd.readouterr().err
    assert printed.count("error: ") == 1
    assert "starting 2 processes" not in printed
    configure(stageA__epochs=1)
    assert exit_code() == 0
    configure(stageA__epochs=1, machine__processes=2)
    with run_lock(run_folder(Path.cwd())):
        assert exit_code() == 3
    assert capfd.readouterr().err.count("another run holds the lock") == 1
