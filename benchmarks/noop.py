"""`python -m benchmarks.noop`: seconds of a `dvc repro` that has nothing to do.

A project of this dvc.yaml and this code in a temporary folder, with shards of synthetic faces; all
other outs are stand-ins, for DVC looks at them by size and time alone.
"""

import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import Figures, in_child, run_benchmark, seconds_of
from benchmarks.scratch import ROOT, Repository
from benchmarks.shards import write_standardized
from stages.config import load_params, read_yaml

REPEATS = 3
# The real recipe; what it reads and writes is made later.
RECIPE = ROOT / "recipes" / "two_stage.yaml"
_NOTHING_TO_DO = "Data and pipelines are up to date."


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print, return the exit code."""
    about = "Time `dvc repro` where nothing has changed since the last run."
    return run_benchmark(argv, name="noop", about=about, faces=20_000, measure=measure)


def measure(faces: int) -> Figures:
    """Figures of one run: seconds of several no-op runs, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = Repository(folder, fill=lambda path: shutil.copy(RECIPE, path / "params.yaml"))
        in_child(write_standardized, folder / "standardized", faces)
        _stand_in(folder)
        repository.run("dvc", "commit", "-f", "-q")
        outputs: list[str] = []
        seconds = [
            seconds_of(lambda: outputs.append(repository.run("dvc", "repro")))
            for _ in range(REPEATS)
        ]
        assert all(_NOTHING_TO_DO in output for output in outputs)  # noqa: S101 - states an invariant
        size = sum(path.stat().st_size for path in folder.glob("standardized/*/*"))
    return {
        "faces": faces,
        "standardized_mb": round(size / 1e6, 1),
        "seconds_min": round(min(seconds), 2),
        "seconds_median": round(statistics.median(seconds), 2),
    }


def _stand_in(folder: Path) -> None:
    """A small file for each archive below `raw`, and for each out that is not there."""
    params = load_params(folder / "params.yaml")
    raw = folder / params.raw
    archives = [raw / source.path for source in params.standardize.sources.values()]
    outs = [folder / out for out in _outs(read_yaml(folder / "dvc.yaml"), [*params.teachers])]
    for path in (*archives, *outs):
        if not path.exists():
            file = path if path.suffix else path / "file"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("{}\n", encoding="utf-8")


def _outs(pipeline: dict[str, Any], teachers: list[str]) -> Iterator[str]:
    """Yield the paths of all outs and metrics, those of a matrix for each teacher."""
    for stage in pipeline["stages"].values():
        for out in (*stage["outs"], *stage.get("metrics", []), *stage.get("plots", [])):
            path = out if isinstance(out, str) else next(iter(out))
            if "matrix" in stage:
                yield from (path.replace("${item.teacher}", teacher) for teacher in teachers)
            else:
                yield path


if __name__ == "__main__":
    raise SystemExit(main())
