"""Door for people: list what is kept in .work, and remove what is done with.

`python -m tools.clean` lists runs and copies of sources; `--finished`, `--older-than DAYS` or
their names remove them. What killed processes left half-written in .work goes in any case.
What a process works in is never removed, and nothing outside of .work is touched.
"""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial

from stages.runtime.door import run_door


def work(runs: Sequence[str], finished: bool, older_than: float | None, dry_run: bool) -> None:
    """List, or remove what is chosen; in the end refuse what was named and is in use."""
    from stages.runtime.errors import LockHeldError
    from stages.runtime.files import project_root
    from stages.runtime.lock import run_lock
    from tools import runs as kept_runs

    root = project_root()
    verb = "would remove" if dry_run else "removed"
    kept = kept_runs.find_kept(root / ".work", models=root / "models")
    for path in kept_runs.half_written_outside(root):
        print(f"half-written, goes when its writer runs again: {path.relative_to(root).as_posix()}")
    for path, owner in kept_runs.half_written(root / ".work").items():
        with suppress(LockHeldError), nullcontext() if dry_run else run_lock(owner):
            print(f"{verb} half-written {path.relative_to(root).as_posix()}")
    if not kept:
        print("nothing in .work")
        return
    # The age of a copy of a source, which is written once, says nothing.
    trained = [run for run in kept if run.stage != kept_runs.COPIES]
    if runs:
        chosen = kept_runs.named(kept, names=runs)
    elif finished:
        chosen = [run for run in trained if run.state == "finished"]
    elif older_than is not None:
        chosen = [run for run in trained if run.age_days >= older_than]
    else:
        print(kept_runs.table(kept))
        return
    refusal = None
    for run in chosen:
        try:
            if run.holder:
                raise LockHeldError(run.folder, run.holder)
            if not dry_run:
                kept_runs.remove_kept(run)
            print(f"{verb} {run.name}: {kept_runs.readable_size(run.num_bytes)}")
        except LockHeldError as error:
            print(f"kept {run.name}: {error}")
            refusal = refusal or error
    if refusal and runs:
        raise refusal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three ways to choose runs, and `--dry-run`."""
    name = "stageA/RN18/0123456789abcdef, or enough of the fingerprint to mean one"
    old = "remove runs without a write for so long; copies of sources only go by name"
    which = parser.add_mutually_exclusive_group()
    which.add_argument("runs", nargs="*", default=[], metavar="RUN", help=name)
    which.add_argument("--finished", action="store_true", help="remove runs that models/ holds")
    which.add_argument("--older-than", type=_days, metavar="DAYS", help=old)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _days(text: str) -> float:
    if not (days := float(text)) >= 0:
        raise ValueError(text)
    return days


main = partial(run_door, work, __doc__, arguments=add_arguments)

if __name__ == "__main__":
    raise SystemExit(main())
