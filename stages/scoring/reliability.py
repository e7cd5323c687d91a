"""Probabilities and targets -> how confidence and accuracy agree, in equal-width bins."""

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def bin_of(confidence: Floats, *, bins: int) -> Ints:
    """The bin 0..bins-1 of each confidence; bins are [low, high), the last one holds 1 too."""
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(inner_edges, confidence, side="right").astype(np.int64)


def reliability_table(probabilities: Floats, targets: Ints, *, bins: int) -> pd.DataFrame:
    """One row a bin: low, high, count, confidence and accuracy (means, NaN where nothing fell)."""
    confidence = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    position = bin_of(confidence, bins=bins)
    count = np.bincount(position, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    edges = np.linspace(0, 1, bins + 1)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "count": count,
            "confidence": np.bincount(position, weights=confidence, minlength=bins) / filled,
            "accuracy": np.bincount(position, weights=correct, minlength=bins) / filled,
        }
    )


def expected_calibration_error(probabilities: Floats, targets: Ints, *, bins: int) -> float:
    """ECE of the top probability: `sum_b n_b / n * |accuracy_b - confidence_b|` (Guo 2017)."""
    table = reliability_table(probabilities, targets, bins=bins)
    gaps = (table["accuracy"] - table["confidence"]).abs() * table["count"]
    return float(gaps.sum() / table["count"].sum())
