"""Door for people: DVC's experiments -> each metric over seeds, with the interval of its mean.

    dvc exp run --queue -S seed=1,2,3 && dvc queue start
    python -m tools.summarize --out seeds.json

In: the experiments of the current commit and the workspace; `--all-commits` takes those of every
commit. Out: a table, and JSON when asked for. Left-out experiments are named with the reason.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door


def main(argv: Sequence[str] | None = None) -> int:
    """Run the door and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.summarize",
        description="Summarize DVC's experiments over seeds.",
    )
    whole = "experiments of every commit, not only of the current one"
    parser.add_argument("--all-commits", action="store_true", help=whole)
    parser.add_argument("--out", type=Path, help="also write JSON here")
    return run_door(partial(work, parser.parse_args(argv)))


def work(arguments: argparse.Namespace) -> None:
    """Read, group by recipe, print, and write to `--out`."""
    from stages.runtime.errors import UserError
    from stages.runtime.files import write_json
    from tools.seeds import read_experiments, summarize, table

    options = ["--all-commits"] if arguments.all_commits else []
    runs, failed = read_experiments(json.loads(_show(options)))
    summaries, alone = summarize(runs)
    unused = (*failed, *alone)
    for run in unused:
        print(f"left out: {run.name}: {run.reason}")
    if not summaries:
        raise UserError(
            "expected experiments that differ in their seed only, found none; "
            "`dvc exp run --queue -S seed=1,2,3` and `dvc queue start` make them"
        )
    print(table(summaries))
    if arguments.out:
        left_out = [asdict(run) for run in unused]
        values = [asdict(summary) for summary in summaries]
        write_json(arguments.out, {"summaries": values, "left_out": left_out})


def _show(options: Sequence[str]) -> str:
    from stages.runtime.errors import UserError

    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", *options]
    found = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if found.returncode:
        raise UserError(f"dvc exp show: {found.stderr.strip()}")
    return found.stdout


if __name__ == "__main__":
    raise SystemExit(main())
