"""Door for people: list what is kept in .work, and remove what is done with.

`python -m tools.clean` lists runs and copies of sources; `--finished`, `--older-than DAYS` or
their names remove them. What killed processes left half-written in .work goes in any case.
What a process works in is never removed, and nothing outside of .work is touched.
"""

import argparse
from collections.abc import Sequence

from stages.runtime.door import run_door


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m tools.clean` and return its exit code: 3 if a named run is in use."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.clean",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    name = "stageA/RN18/0123456789abcdef, or enough of the fingerprint to mean one"
    old = "remove runs without a write for so long; copies of sources only go by name"
    which = parser.add_mutually_exclusive_group()
    which.add_argument("runs", nargs="*", default=[], metavar="RUN", help=name)
    which.add_argument("--finished", action="store_true", help="remove runs that models/ holds")
    which.add_argument("--older-than", type=_days, metavar="DAYS", help=old)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    args = parser.parse_args(argv)
    return run_door(lambda: work(args))


def work(args: argparse.Namespace) -> None:
    """List, or remove what is chosen; in the end refuse what was named and is in use."""
    from stages.runtime.files import project_root
    from tools import runs
    from tools.runs_table import readable_size, table

    root = project_root()
    kept = runs.find_kept(root / ".work", models=root / "models")
    for path in runs.half_written_outside(root):
        print(f"half-written, goes when its writer runs again: {path.relative_to(root).as_posix()}")
    tidy = runs.half_written if args.dry_run else runs.remove_half_written
    for path in tidy(root / ".work"):
        print(f"{_verb(args)} half-written {path.relative_to(root).as_posix()}")
    if not kept:
        print("nothing in .work")
        return
    if args.runs:
        chosen = runs.named(kept, names=args.runs)
    elif args.finished:
        chosen = runs.finished(kept)
    elif args.older_than is not None:
        chosen = runs.older_than(kept, days=args.older_than)
    else:
        print(table(kept))
        return
    dispose = runs.require_free if args.dry_run else runs.remove_kept
    removed, refusals = runs.for_each(chosen, dispose=dispose)
    for one in removed:
        print(f"{_verb(args)} {one.name}: {readable_size(one.num_bytes)}")
    for one, refusal in refusals:
        print(f"kept {one.name}: {refusal}")
    if refusals and args.runs:
        raise refusals[0][1]


def _verb(args: argparse.Namespace) -> str:
    return "would remove" if args.dry_run else "removed"


def _days(text: str) -> float:
    days = float(text)
    if not days >= 0:
        raise ValueError(text)
    return days


if __name__ == "__main__":
    raise SystemExit(main())
