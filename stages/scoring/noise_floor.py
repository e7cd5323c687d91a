"""Confidences -> the calibration error that they would show if every one of them were true."""

from dataclasses import dataclass

import numpy as np

from stages.scoring.metrics import Floats
from stages.scoring.reliability import bin_of

_DRAWS = 1000
_PARTS_OF_A_BIN = 10


@dataclass(frozen=True)
class NoiseFloor:
    """Mean and 95th percentile of the ECE of a perfectly calibrated model."""

    mean: float
    percentile_95: float


def ece_floor(probabilities: Floats, *, bins: int) -> NoiseFloor:
    """What the ECE would be if the confidences of these probabilities (N, C), N >= 1, were true.

    Each row's hit is drawn with its confidence for probability, independently of the others. Rows
    of a tenth of a bin share their mean confidence, so that their hits are one binomial number.
    The draws are always the same: equal confidences have equal floors.
    """
    confidence = probabilities.max(axis=1)
    part = bin_of(confidence, bins=bins * _PARTS_OF_A_BIN)
    count = np.bincount(part)
    filled = np.flatnonzero(count)
    count, claimed = count[filled], np.bincount(part, weights=confidence)[filled]
    chance = np.minimum(claimed / count, 1)[:, None]
    hits = np.random.default_rng(0).binomial(count[:, None], chance, size=(len(filled), _DRAWS))
    starts = np.flatnonzero(np.diff(filled // _PARTS_OF_A_BIN, prepend=-1))
    gaps = np.add.reduceat(claimed[:, None] - hits, starts, axis=0)
    errors = np.abs(gaps).sum(axis=0) / len(confidence)
    return NoiseFloor(float(errors.mean()), float(np.quantile(errors, 0.95)))
