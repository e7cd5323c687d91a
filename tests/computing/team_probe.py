"""`python -m team_probe FOLDER WHAT`: one process of a team; says what it got in FOLDER/<rank>."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from stages.computing.team import Team, join_team
from stages.runtime.door import run_door
from stages.runtime.errors import InterruptedRunError, UserError
from stages.runtime.signals import stop_on_signals

FOLDER, WHAT = Path(sys.argv[1]), sys.argv[2]


def agree(team: Team) -> None:
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
    (FOLDER / str(team.rank)).write_text(json.dumps(found))


def fail_in_the_lead(team: Team) -> None:
    def work() -> None:
        raise UserError("the leader's message")

    team.lead(work)


def lose_one(team: Team) -> None:
    if team.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    team.sum(1.0)


def wait_for_a_signal(team: Team) -> None:
    with stop_on_signals() as stop:
        (FOLDER / f"ready{team.rank}").touch()
        while not (signal_number := team.greatest(stop.signal_number)[0]):
            time.sleep(0.01)
        (FOLDER / f"saved{team.rank}").touch()
        raise InterruptedRunError(signal_number)


def main() -> None:
    with join_team(torch.device("cpu")) as team:
        globals()[WHAT](team)


raise SystemExit(run_door(main, __doc__, []))
