"""Door of the DVC stages stageA and stageB: train one teacher, or resume its run.

`python -m stages.train stageA RN18`: standardized/ + manifests/ -> models/<stage>/<teacher>/.
Work in progress lives in .work/<stage>/<teacher>/<fingerprint>/, out of DVC's reach. If
`machine.processes` is above 1, it starts that many processes of itself.
"""

import argparse
from contextlib import ExitStack
from functools import partial

from stages.runtime.door import run_door


def work(stage: str, teacher: str, fresh: bool) -> int | None:
    """Train and publish one teacher, or start the processes that do and return their exit code.

    Imports wait until here so that `--help` answers at once.
    """
    from stages.computing.device import be_deterministic, be_fast, choose_device, keep_freed_memory
    from stages.computing.launch import is_to_be_launched, launch
    from stages.computing.team import join_team
    from stages.config import load_params
    from stages.runtime.errors import UserError
    from stages.runtime.signals import stop_on_signals
    from stages.training.run import hold, set_aside
    from stages.training.session import Session, open_session
    from stages.training.teacher import train_teacher

    params = load_params()
    machine = params.machine
    if teacher not in params.teachers:
        raise UserError(f"params.yaml: teachers: no {teacher!r}; known: {sorted(params.teachers)}")
    prepare = be_deterministic if machine.deterministic else be_fast
    prepare()
    keep_freed_memory()
    device = choose_device(machine.device)
    with ExitStack() as stack:
        team = stack.enter_context(join_team(device))
        stage_params, preprocess = params.effective(stage, teacher)
        session = open_session(
            Session(
                stage,
                teacher,
                stage_params=stage_params,
                teacher_params=params.teachers[teacher],
                preprocess=preprocess,
                seed=params.seed,
                machine=machine,
                device=device,
                team=team,
            )
        )
        if is_to_be_launched(machine.processes):
            command = ["stages.train", stage, teacher, *(["--fresh"] if fresh else [])]
            return launch(command, processes=machine.processes, device=device)
        team.lead(lambda: stack.enter_context(hold(session.run)))
        stop = stack.enter_context(stop_on_signals())
        if fresh:
            team.lead(lambda: set_aside(session.run))
        train_teacher(session, stop=stop)
    return None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the stage, the teacher and `--fresh`."""
    parser.add_argument("stage", choices=["stageA", "stageB"], help="a section of params.yaml")
    parser.add_argument("teacher", help="a name among params.yaml: teachers")
    fresh = "set what this run has learnt aside in .work; other params begin anew without it"
    parser.add_argument("--fresh", action="store_true", help=fresh)


main = partial(run_door, work, __doc__, arguments=add_arguments)

if __name__ == "__main__":
    raise SystemExit(main())
