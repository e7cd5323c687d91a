"""Confidences -> the calibration error that is noise alone, and the error among confident rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.scoring.metrics import Floats, Ints, bin_of

FLOOR_MEANS = (
    "The floor is the mean ECE of a perfectly calibrated model with these confidences, with its "
    "95th percentile: an ECE below that may be noise alone."
)

_DRAWS = 1000
_POINTS = 100
_Z = 1.959964  # a standard normal variable lies within it 95 % of the time


@dataclass(frozen=True)
class NoiseFloor:
    """Mean and 95th percentile of the ECE of a perfectly calibrated model."""

    mean: float
    percentile_95: float


def ece_floor(probabilities: Floats, *, group: Ints, bins: int) -> NoiseFloor:
    """Draw the ECE as it would be if the confidences of probabilities (N, C), N >= 1, were true.

    Each row is right with its confidence for probability. The rows of a group, numbered 0 to G-1 in
    `group` (N,), share one draw, because copies are right or wrong together. The draws are always
    the same: equal confidences in equal groups have equal floors.
    """
    confidence = probabilities.max(axis=1)
    position, num_groups = bin_of(confidence, bins=bins), int(group.max()) + 1
    random = np.random.default_rng(0)
    errors = np.empty(_DRAWS)
    for number in range(_DRAWS):
        hits = random.random(num_groups)[group] < confidence
        errors[number] = np.abs(np.bincount(position, weights=confidence - hits)).sum()
    errors /= len(confidence)
    return NoiseFloor(float(errors.mean()), float(np.quantile(errors, 0.95)))


def floor_cell(row: Mapping[str, Any]) -> str:
    """Format the floor of a row of scores for a table: the mean, then the 95th percentile."""
    return f"{row['ece_floor']:.3f} ({row['ece_floor_95']:.3f})"


def floor_words(row: Mapping[str, Any]) -> str:
    """Format the floor of a row of scores for a sentence."""
    return (
        f"a calibrated model would have {row['ece_floor']:.3f} on average, above "
        f"{row['ece_floor_95']:.3f} in one of 20"
    )


def risk_coverage(probabilities: Floats, targets: Ints) -> pd.DataFrame:
    """Error among the most confident rows (N, 7): `coverage, rows, risk, risk_low, risk_high`.

    At most a hundred points, from the most confident rows to all. Rows of equal confidence are
    taken together, so that their order plays no part (Geifman and El-Yaniv 2017).
    """
    confidence = probabilities.max(axis=1)
    wrong = probabilities.argmax(axis=1) != targets
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) + 1
    wanted = np.ceil(np.linspace(0, len(targets), _POINTS + 1)[1:])
    rows = np.unique(ends[np.searchsorted(ends, wanted)])
    errors = np.cumsum(wrong[order])[rows - 1]
    low, high = wilson_interval(errors, rows)
    columns = {"coverage": rows / len(targets), "rows": rows, "risk": errors / rows}
    return pd.DataFrame(columns | {"risk_low": low, "risk_high": high})


def wilson_interval(successes: npt.ArrayLike, n: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Low and high ends of the 95 % score interval of `successes / n`, for n above 0.

    `(p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)` (Wilson 1927). It takes
    rows as independent: unlike the bootstrap by group it does not collapse where all rows agree.
    """
    count = np.asarray(n, dtype=np.float64)
    share = np.asarray(successes, dtype=np.float64) / count
    square = _Z**2 / count
    middle = (share + square / 2) / (1 + square)
    half = np.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
