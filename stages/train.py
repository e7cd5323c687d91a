"""Door of the DVC stages stageA and stageB: train one teacher, or go on where its run stopped.

`python -m stages.train stageA RN18`: standardized/ + manifests/ -> models/<stage>/<teacher>/.
Work in progress lives in .work/<stage>/<teacher>/<fingerprint>/, out of DVC's reach.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from stages.runtime.door import run_door

STANDARDIZED, MANIFESTS, MODELS = Path("standardized"), Path("manifests"), Path("models")

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, train, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument("stage", choices=["stageA", "stageB"], help="which recipe of params.yaml")
    parser.add_argument("teacher", help="a name among params.yaml: teachers")
    fresh = "set what this run has learnt aside in .work; other params begin anew without it"
    parser.add_argument("--fresh", action="store_true", help=fresh)
    args = parser.parse_args(argv)
    return run_door(lambda: work(args.stage, args.teacher, fresh=args.fresh))


def work(stage: str, teacher: str, *, fresh: bool) -> None:
    """Train and publish one teacher. Imports wait until here so that `--help` answers at once."""
    from stages.config import load_params
    from stages.runtime.errors import UserError
    from stages.runtime.signals import stop_on_signals
    from stages.training.run import hold, open_run, set_aside, shard_hashes
    from stages.training.selection import choose_rows
    from stages.training.session import Session, learn, publish_teacher
    from stages.training.start import build_model, find_start, passed_through

    params = load_params()
    if teacher not in params.teachers:
        raise UserError(f"params.yaml: teachers: no {teacher!r}; known: {sorted(params.teachers)}")
    section, recipe, seed = params.stage(stage), params.teachers[teacher], params.seed
    start = find_start(MODELS, section=section, recipe=recipe, teacher=teacher)
    section = passed_through(section, start)
    rows = choose_rows(MANIFESTS, rows=section.filter, key=f"{stage}.filter")
    # Exactly what dvc.yaml lists as params of the stage.
    listed = {"seed": seed, "preprocess": params.preprocess, stage: section, "teacher": recipe}
    run = open_run(
        stage,
        teacher=teacher,
        params=listed,
        data={"manifest": rows.manifest_sha256, "rows": rows.sha256()} | shard_hashes(STANDARDIZED),
        init_sha256=start.sha256(),
    )
    logger.info(
        "%s %s: run %s, %d train rows", stage, teacher, run.fingerprint[:16], len(rows.train)
    )
    session = Session(
        run=run,
        rows=rows,
        section=section,
        recipe=recipe,
        preprocess=params.preprocess,
        seed=seed,
        machine=params.machine,
        standardized=STANDARDIZED,
    )
    with hold(run), stop_on_signals() as stop:
        if fresh:
            set_aside(run)
        model = build_model(start, section=section, recipe=recipe, teacher=teacher, seed=seed)
        progress = learn(session, model, stop=stop)
        target = MODELS / stage / teacher
        publish_teacher(session, model, start=start, progress=progress, target=target)
    logger.info("published %s: epoch %d", target.as_posix(), progress.best["epoch"])


if __name__ == "__main__":
    raise SystemExit(main())
