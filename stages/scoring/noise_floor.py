"""Confidences -> the calibration error that they would show if every one of them were true.

And how that floor is told, wherever an ECE stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.scoring.metrics import Floats, Ints
from stages.scoring.reliability import bin_of

FLOOR_MEANS = (
    "The floor is the mean ECE of a perfectly calibrated model with these confidences, with its "
    "95th percentile: an ECE below that may be noise alone."
)

_DRAWS = 1000


@dataclass(frozen=True)
class NoiseFloor:
    """Mean and 95th percentile of the ECE of a perfectly calibrated model."""

    mean: float
    percentile_95: float


def ece_floor(probabilities: Floats, *, group: Ints, bins: int) -> NoiseFloor:
    """What the ECE would be if the confidences of these probabilities (N, C), N >= 1, were true.

    Each row's hit is drawn with its confidence for probability. The rows of a group, numbered 0 to
    G-1 in `group` (N,), share one draw: copies are hit or missed together. The draws are always the
    same: equal confidences in equal groups have equal floors.
    """
    confidence = probabilities.max(axis=1)
    which, num_groups = bin_of(confidence, bins=bins), int(group.max()) + 1
    random = np.random.default_rng(0)
    errors = np.empty(_DRAWS)
    for number in range(_DRAWS):
        hits = random.random(num_groups)[group] < confidence
        errors[number] = np.abs(np.bincount(which, weights=confidence - hits)).sum()
    errors /= len(confidence)
    return NoiseFloor(float(errors.mean()), float(np.quantile(errors, 0.95)))


def floor_cell(row: Mapping[str, Any]) -> str:
    """The floor of a row of scores in a table: the mean, and the 95th percentile in brackets."""
    return f"{row['ece_floor']:.3f} ({row['ece_floor_95']:.3f})"


def floor_words(row: Mapping[str, Any]) -> str:
    """The floor of a row of scores in a sentence."""
    return (
        f"a calibrated model would have {row['ece_floor']:.3f} on average, above "
        f"{row['ece_floor_95']:.3f} in one of 20"
    )
