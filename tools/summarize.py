"""Door for people: DVC's experiments -> each metric over seeds, with the interval of its mean.

    dvc exp run --queue -S seed=1,2,3 && dvc queue start
    python -m tools.summarize --write

In: the experiments of the current commit and the workspace; `--all-commits` takes those of every
commit. Out: a table; plots/seeds.csv, which the page shows, with `--write`; JSON with `--out`.
Left-out experiments are named with the reason.
"""

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door


def work(all_commits: bool, write: bool, out: Path | None) -> None:
    """Read, group by recipe, print, and write what is asked for."""
    from stages.reporting.seeds import FILE
    from stages.runtime.errors import UserError
    from stages.runtime.files import write_csv, write_json
    from tools.seeds import for_page, summarize, table

    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    command += ["--all-commits"] if all_commits else []
    shown = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if shown.returncode:
        raise UserError(f"dvc exp show: {shown.stderr.strip()}")
    summaries, unused = summarize(json.loads(shown.stdout))
    for run in unused:
        print(f"left out: {run.name}: {run.reason}")
    if not summaries:
        raise UserError(
            "expected experiments that differ in their seed only, found none; "
            "`dvc exp run --queue -S seed=1,2,3` and `dvc queue start` make them"
        )
    print(table(summaries))
    if write:
        write_csv(Path(FILE), for_page(summaries))
    if out:
        left_out, values = ([entry._asdict() for entry in part] for part in (unused, summaries))
        write_json(out, {"summaries": values, "left_out": left_out})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which experiments are read and where the result goes."""
    whole = "experiments of every commit, not only of the current one"
    parser.add_argument("--all-commits", action="store_true", help=whole)
    parser.add_argument("--write", action="store_true", help="write the page's plots/seeds.csv")
    parser.add_argument("--out", type=Path, help="also write JSON here")


main = partial(run_door, work, __doc__, arguments=add_arguments)

if __name__ == "__main__":
    raise SystemExit(main())
