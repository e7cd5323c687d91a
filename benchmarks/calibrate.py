"""`python -m benchmarks.calibrate`: what the intervals of a model's metrics cost, side by side.

On synthetic logits, in one run: all draws as one product of matrices, as calibrate does it, against
the classic way that picks each draw's rows and scores them anew. Both make the same numbers.
"""

import statistics
from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.command import Figures, run_benchmark, seconds_of
from stages.scoring.bootstrap import Resamples, draw, resample
from stages.scoring.metrics import Floats, Ints, score, softmax

BINS, DRAWS, PICKED = 15, 1000, 20
REPEATS = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print, return the exit code."""
    about = "Time the bootstrap of a model's metrics against scoring each draw anew."
    return run_benchmark(argv, name="calibrate", about=about, faces=3_000, measure=measure)


def measure(faces: int) -> Figures:
    """Time both ways in turns: median milliseconds a draw, and how much faster the first is."""
    random = np.random.default_rng(0)
    targets = random.integers(7, size=faces)
    probabilities = softmax(random.normal(size=(faces, 7)) + 2 * np.eye(7)[targets])
    names = [f"group {row // 2}" for row in range(faces)]
    resamples = resample(names, samples=DRAWS, random=random)
    named = probabilities.argmax(axis=1)
    draw_all = partial(draw, probabilities, targets, named=named, resamples=resamples, bins=BINS)
    anew = _scores(probabilities, targets, resamples)
    difference = float(np.abs(draw_all().draws["macro_f1"][:PICKED] - anew).max())
    products, picked = [], []
    for _ in range(REPEATS):
        products.append(seconds_of(draw_all) / DRAWS)
        picked.append(seconds_of(lambda: _scores(probabilities, targets, resamples)) / PICKED)
    ratios = [slow / fast for slow, fast in zip(picked, products, strict=True)]
    return {
        "faces": faces,
        "draws": DRAWS,
        "ms_per_draw": round(1000 * statistics.median(products), 4),
        "classic_ms_per_draw": round(1000 * statistics.median(picked), 4),
        "times_faster": round(statistics.median(ratios), 1),
        "times_faster_range": f"{min(ratios):.1f} to {max(ratios):.1f}",
        "largest_difference": difference,
    }


def _scores(probabilities: Floats, targets: Ints, resamples: Resamples) -> Floats:
    """Score macro-F1 of the first draws, each with all the scores beside it."""
    macro_f1 = []
    for counts in resamples.counts[:PICKED]:
        rows = np.repeat(np.arange(len(targets)), counts[resamples.group])
        macro_f1.append(score(probabilities[rows], targets[rows], bins=BINS)["macro_f1"])
    return np.array(macro_f1)


if __name__ == "__main__":
    raise SystemExit(main())
