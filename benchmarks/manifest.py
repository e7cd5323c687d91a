"""`python -m benchmarks.manifest`: seconds and memory of the manifest stage, and of its parts.

The door itself runs twice on the same synthetic shards, each time in a new process: once as it is,
for its seconds and peak memory, and once under a profiler, for the seconds of each function that it
calls. The profiler slows small functions down, so the parts add up to more than the whole.
"""

import cProfile
import pstats
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

from benchmarks.command import Figures, in_child, run_benchmark
from benchmarks.machine import peak_gib
from benchmarks.shards import write_standardized
from stages import manifest
from stages.runtime.files import read_json

RECIPE = Path(__file__).parents[1] / "recipes" / "two_stage.yaml"
_SEARCH = "similar_pairs"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print, return the exit code."""
    about = "Time the manifest stage on synthetic faces of four sources, 7 % of them copies."
    return run_benchmark(argv, name="manifest", about=about, faces=20_000, measure=measure)


def measure(faces: int) -> Figures:
    """Figures of one run: seconds, GiB, and what was found."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(RECIPE, Path(folder, "params.yaml"))
        in_child(write_standardized, Path(folder, "standardized"), faces)
        figures = in_child(_run, folder)
        parts = in_child(_run_profiled, folder)
        found = read_json(Path(folder, "metrics", "manifest.json"))["manifest"]
    search = parts.pop(_SEARCH)
    return {
        "faces": faces,
        **figures,
        "search_s": search,
        "without_search_s": round(figures["seconds"] - search, 2),
        "parts_s": parts,
        "rows": sum(found["rows"].values()),
        "exact_pictures": found["duplicates"]["exact_pictures"],
        "near_pairs": found["duplicates"]["near_pairs"],
    }


def _run(folder: str) -> Figures:
    """Run the door in `folder`; seconds, imports included, and peak memory."""
    with chdir(folder):
        start = time.perf_counter()
        code = manifest.main([])
        seconds = time.perf_counter() - start
    assert code == 0, "the manifest stage failed"  # noqa: S101 - states an invariant
    return {"seconds": round(seconds, 2), "peak_gib": peak_gib()}


def _run_profiled(folder: str) -> dict[str, float]:
    """Run the door in `folder`; seconds in the functions that it calls, and in the search."""
    profile = cProfile.Profile()
    with chdir(folder):
        profile.runcall(manifest.main, [])
    calls = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    door = manifest.work.__code__
    key = (door.co_filename, door.co_firstlineno, door.co_name)
    parts = {_SEARCH: 0.0, "imports": 0.0}
    for (file, _, name), (_, _, _, total, callers) in calls.items():
        if name == _SEARCH:
            parts[_SEARCH] += total
        if key in callers:
            part = name if "stages" in Path(file).parts else "imports"
            parts[part] = parts.get(part, 0.0) + callers[key][3]
    slowest_first = sorted(parts.items(), key=lambda item: -item[1])
    return {name: round(seconds, 2) for name, seconds in slowest_first}


if __name__ == "__main__":
    raise SystemExit(main())
