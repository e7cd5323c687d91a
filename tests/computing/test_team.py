"""Two real processes that agree, fail, are lost and are stopped together.

As `python -m test_team FOLDER WHAT` it is one of them, and says what it got in FOLDER/<rank>.
"""

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
from stages.computing.team import ALONE, Team, join_team
from stages.runtime.door import run_door
from stages.runtime.errors import InterruptedRunError, UserError
from stages.runtime.signals import stop_on_signals

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
Probe = Callable[[str], int]


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """A function that lets a team of two do something; returns the team's exit code."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(Path(__file__).parent)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return lambda what: launch(["test_team", str(tmp_path), what], processes=2, device=CPU)


def test_a_process_without_a_launcher_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # as some clusters set it for every job
    with join_team(CPU) as team:
        assert (team, team.leads) == (ALONE, True)


def agree(team: Team, folder: Path) -> None:
    torch.manual_seed(team.rank)
    layer = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    team.align(layer)
    found = {
        "size": [team.size, team.local_size],
        "greatest": team.greatest(team.rank, -team.rank),
        "sum": team.sum(0.1 + team.rank),
        "gather": team.gather({"rank": team.rank}),
        "led": team.lead(lambda: f"by {team.rank}"),
        "weights": layer.weight.flatten().tolist(),
        "threads": torch.get_num_threads(),
    }
    (folder / str(team.rank)).write_text(json.dumps(found))


def test_a_team_agrees_on_everything(probe: Probe, tmp_path: Path) -> None:
    assert probe("agree") == 0
    torch.manual_seed(0)
    expected = {
        "size": [2, 2],
        "greatest": [1, 0],
        "sum": 0.1 + 1.1,
        "gather": [{"rank": 0}, {"rank": 1}],
        "led": "by 0",
        "weights": torch.nn.Conv2d(2, 3, 3).weight.flatten().tolist(),
        "threads": 1,
    }
    assert [json.loads((tmp_path / rank).read_text()) for rank in "01"] == [expected, expected]


def fail_in_the_lead(team: Team, _folder: Path) -> None:
    def work() -> None:
        raise UserError("the leader's message")

    team.lead(work)


def lose_one(team: Team, _folder: Path) -> None:
    if team.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    team.sum(1.0)


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


def wait_for_a_signal(team: Team, folder: Path) -> None:
    with stop_on_signals() as stop:
        (folder / f"ready{team.rank}").touch()
        while not (signal_number := team.greatest(stop.signal_number)[0]):
            time.sleep(0.01)
        (folder / f"saved{team.rank}").touch()
        raise InterruptedRunError(signal_number)


LAUNCHER = """
import sys, torch; from stages.computing.launch import launch
command = ["test_team", sys.argv[1], "wait_for_a_signal"]
sys.exit(launch(command, processes=2, device=torch.device("cpu")))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM that can be caught there")
@pytest.mark.parametrize(
    "sent", [pytest.param(["SIGUSR1"], id="reported_SIGUSR1"), ["SIGUSR1", "SIGTERM"]]
)
def test_a_stop_signal_to_the_launcher_reaches_every_process_once(
    tmp_path: Path, probe: Probe, sent: list[str]
) -> None:
    command = [sys.executable, "-c", LAUNCHER, str(tmp_path)]
    launcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)):
        assert launcher.poll() is None, launcher.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for name in sent:
        launcher.send_signal(signal.Signals[name])
        time.sleep(0.01)
    _, printed = launcher.communicate(timeout=60)
    assert launcher.returncode in [128 + signal.Signals[name] for name in sent]
    assert all((tmp_path / f"saved{rank}").exists() for rank in (0, 1))
    assert len(re.findall(r"interrupted by signal \d+; state saved", printed)) == 1


def test_only_the_first_process_starts_others_and_ends_with_what_says_most(monkeypatch) -> None:
    assert [worst(codes) for codes in ([1, 2], [-9, 1], [-15, 3])] == [2, 1, 3]
    assert [is_to_be_launched(processes) for processes in (1, 2)] == [False, True]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert not is_to_be_launched(2)


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda", "machine.processes: 2 asked for, 1 CUDA devices"), ("cuda:1", "is one GPU")],
)
def test_more_processes_than_gpus_are_refused(device: str, message: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=message):
        launch(["test_team"], processes=2, device=torch.device(device))


def main() -> None:
    with join_team(CPU) as team:
        globals()[sys.argv[2]](team, Path(sys.argv[1]))


if __name__ == "__main__":
    raise SystemExit(run_door(main, __doc__, []))
