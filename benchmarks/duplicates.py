"""The duplicate search: time, memory, and what share of brute force's pairs it finds.

`python -m benchmarks.duplicates` takes synthetic faces, or those of a standardized folder.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import Figures, in_child, show
from benchmarks.machine import peak_gib
from benchmarks.synthetic import Pictures, draw_thumbnails, plant_copies
from stages.faces.fingerprint import THUMBNAIL_SIDE
from stages.faces.shards import read_faces
from stages.splitting.similarity import Pairs, similar_pairs

NEAR, REVIEW = 0.93, 0.90
_CHECKED_ROWS = 2000


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.duplicates", description=__doc__)
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--faces", type=int, default=20_000, metavar="N", help="synthetic faces, default 20000"
    )
    source.add_argument("--standardized", type=Path, metavar="DIR", help="faces of a real folder")
    parser.add_argument("--json", action="store_true", help="the figures alone, on one line")
    arguments = parser.parse_args(argv)
    figures = in_child(measure, arguments.standardized or arguments.faces)
    show("duplicates", figures, as_json=arguments.json)
    return 0


def measure(faces: Path | int) -> Figures:
    """Search them, then compare with brute force on some rows against all others."""
    if isinstance(faces, Path):
        table = read_faces(faces, ["sha256", "thumbnail"]).drop_duplicates("sha256")
        joined = b"".join(table["thumbnail"])
        thumbnails = np.frombuffer(joined, np.uint8).reshape(-1, THUMBNAIL_SIDE**2)
    else:
        thumbnails = draw_thumbnails(faces)
        plant_copies(thumbnails)
    start = time.perf_counter()
    pairs = similar_pairs(thumbnails, at_least=REVIEW)
    seconds = time.perf_counter() - start
    peak = peak_gib()
    rows = np.random.default_rng(1).permutation(len(thumbnails))[:_CHECKED_ROWS]
    expected = brute_force(thumbnails, rows=rows)
    found = _touching(pairs, rows)
    return {
        "faces": len(thumbnails),
        "seconds": round(seconds, 2),
        "comparisons_per_ns": round(len(thumbnails) ** 2 / 2 / seconds / 1e9, 2),
        "peak_gib": peak,
        "near_pairs": int((pairs.correlation >= NEAR).sum()),
        "near_mirrored": int((pairs.mirrored & (pairs.correlation >= NEAR)).sum()),
        "review_pairs": int((pairs.correlation < NEAR).sum()),
        "brute_force_rows": len(rows),
        "brute_force_near_pairs": len(expected),
        "found_of_them": len(expected & found) / len(expected) if expected else 1.0,
        "found_besides": len(found - expected),
    }


def brute_force(thumbnails: Pictures, *, rows: NDArray[np.int64]) -> set[tuple[int, int]]:
    """All near pairs of these rows with any other, as they stand or mirrored."""
    chosen = _unit(thumbnails[rows])
    turned = chosen.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)[:, :, ::-1].reshape(chosen.shape)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(thumbnails), 8192):
        others = _unit(thumbnails[start : start + 8192])
        near = np.maximum(chosen @ others.T, turned @ others.T) >= NEAR
        for row, other in zip(*np.nonzero(near), strict=True):
            pair = sorted((int(rows[row]), int(other) + start))
            if pair[0] != pair[1]:
                pairs.add((pair[0], pair[1]))
    return pairs


def _touching(pairs: Pairs, rows: NDArray[np.int64]) -> set[tuple[int, int]]:
    """The near pairs in which one of these rows is."""
    near = pairs.correlation >= NEAR
    near &= np.isin(pairs.first, rows) | np.isin(pairs.second, rows)
    return set(zip(pairs.first[near].tolist(), pairs.second[near].tolist(), strict=True))


def _unit(thumbnails: Pictures) -> NDArray[np.float64]:
    centred = thumbnails.astype(np.float64)
    centred -= centred.mean(1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)


if __name__ == "__main__":
    raise SystemExit(main())
