"""Two real processes that agree, fail, are lost and are stopped together."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stages.computing.launch import is_to_be_launched, launch, worst
from stages.computing.team import ALONE, join_team
from stages.runtime.errors import UserError

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]

Probe = Callable[[str], int]


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """A function that lets a team of two do something; returns the team's exit code."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(Path(__file__).parent)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return lambda what: launch(["team_probe", str(tmp_path), what], processes=2, device=CPU)


def test_a_process_without_a_launcher_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # as some clusters set it for every job
    with join_team(CPU) as team:
        assert (team, team.leads) == (ALONE, True)
    assert ALONE.lead(lambda: 5) == 5
    assert ALONE.greatest(3, -1) == (3, -1)
    assert ALONE.sum(0.1) == 0.1
    assert ALONE.gather("x") == ["x"]


def test_a_team_agrees_on_everything(probe: Probe, tmp_path: Path) -> None:
    assert probe("agree") == 0
    first, second = (json.loads((tmp_path / rank).read_text()) for rank in "01")
    assert first == second
    assert first["size"] == [2, 2]
    assert first["greatest"] == [1, 0]
    assert first["sum"] == 0.1 + 1.1
    assert first["gather"] == [{"rank": 0}, {"rank": 1}]
    assert first["led"] == "by 0"
    assert first["threads"] == 1
    torch.manual_seed(0)
    assert first["weights"] == torch.nn.Conv2d(2, 3, 3).weight.flatten().tolist()


@pytest.mark.parametrize(
    ("what", "code", "expected"),
    [
        ("fail_in_the_lead", 2, "error: the leader's message"),
        ("lose_one", 1, "process 1 ended with SIGKILL"),
    ],
)
def test_what_ends_a_process_is_said_once_and_ends_the_others(
    probe: Probe, capfd, caplog, what: str, code: int, expected: str
) -> None:
    assert probe(what) == code
    printed = capfd.readouterr().err
    assert (printed + caplog.text).count(expected) == 1
    assert "Traceback" not in printed


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM that can be caught there")
@pytest.mark.parametrize(
    "sent",
    [["SIGTERM"], pytest.param(["SIGUSR1"], id="reported_SIGUSR1"), ["SIGUSR1", "SIGTERM"]],
)
def test_a_stop_signal_to_the_launcher_reaches_every_process_once(
    tmp_path: Path, probe: Probe, sent: list[str]
) -> None:
    numbers = [signal.Signals[name] for name in sent]
    code = (
        "import sys, torch; from stages.computing.launch import launch; "
        f"sys.exit(launch(['team_probe', {str(tmp_path)!r}, 'wait_for_a_signal'], processes=2, "
        "device=torch.device('cpu')))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)):
        assert launcher.poll() is None, launcher.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for number in numbers:
        launcher.send_signal(number)
        time.sleep(0.01)
    _, printed = launcher.communicate(timeout=60)
    assert launcher.returncode - 128 in numbers
    assert all((tmp_path / f"saved{rank}").exists() for rank in (0, 1))
    assert len(re.findall(r"interrupted by signal \d+; state saved", printed)) == 1


def test_only_the_first_process_starts_others_and_ends_with_what_says_most(monkeypatch) -> None:
    assert [worst(codes) for codes in ([1, 2], [-9, 1], [-15, 3])] == [2, 1, 3]
    assert is_to_be_launched(2)
    assert not is_to_be_launched(1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert not is_to_be_launched(2)


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda", "machine.processes: 2 asked for, 1 CUDA devices"), ("cuda:1", "is one GPU")],
)
def test_more_processes_than_gpus_are_refused(
    device: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=message):
        launch(["team_probe"], processes=2, device=torch.device(device))
