"""Row-wise evidence -> sums over rows -> every metric. A bootstrap draw is a weighted sum.

So the estimate and a thousand draws come from one matrix product and one piece of code.
"""

from dataclasses import dataclass

import numpy as np

from stages.scoring.metrics import Floats, Ints, row_brier, row_nll
from stages.scoring.reliability import bin_of

# Metrics that have an interval; `f1_of_class` (B, C) comes besides.
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece")

Draws = dict[str, Floats]


@dataclass(frozen=True)
class Layout:
    """Which columns of the sums hold what, for C classes and B bins."""

    classes: int
    bins: int

    @property
    def confusion(self) -> slice:
        """Rows of each actual and predicted class."""
        return slice(0, self.classes**2)

    @property
    def gaps(self) -> slice:
        """Confidence minus hits in each bin of equal width."""
        return slice(self.classes**2, self.classes**2 + self.bins)

    @property
    def num_columns(self) -> int:
        """All of them; the last two are NLL and Brier score."""
        return int(self.gaps.stop) + 2


def row_sums(probabilities: Floats, targets: Ints, *, bins: int) -> Floats:
    """What each row adds, (N, K), by `Layout`."""
    n, classes = probabilities.shape
    layout = Layout(classes, bins)
    rows, predicted = np.arange(n), probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    gap = confidence - (predicted == targets)
    sums = np.zeros((n, layout.num_columns))
    sums[rows, targets * classes + predicted] = 1
    sums[rows, layout.gaps.start + bin_of(confidence, bins=bins)] = gap
    sums[:, -2] = row_nll(probabilities, targets)
    sums[:, -1] = row_brier(probabilities, targets)
    return sums


def metrics_of(totals: Floats, *, layout: Layout) -> Draws:
    """The metrics (B,) and (B, C) of sums (B, K) over rows; NaN for a draw without rows.

    Macro-F1 runs over all classes, balanced accuracy over those that are there. The ECE is
    `sum_b |confidence_b - hits_b| / n` (Guo 2017).
    """
    classes = layout.classes
    confusion = totals[:, layout.confusion].reshape(-1, classes, classes)
    n = confusion.sum(axis=(1, 2))
    n = np.where(n > 0, n, np.nan)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    actual, claims = confusion.sum(axis=2), confusion.sum(axis=1) + confusion.sum(axis=2)
    f1 = np.where(claims > 0, 2 * hits / np.maximum(claims, 1), 0.0)
    recall = np.where(actual > 0, hits / np.maximum(actual, 1), 0.0)
    present = (actual > 0).sum(axis=1)
    return {
        "accuracy": hits.sum(axis=1) / n,
        "balanced_accuracy": recall.sum(axis=1) / np.where(present > 0, present, np.nan),
        "macro_f1": np.where(np.isnan(n), np.nan, f1.mean(axis=1)),
        "nll": totals[:, -2] / n,
        "brier": totals[:, -1] / n,
        "ece": np.abs(totals[:, layout.gaps]).sum(axis=1) / n,
        "f1_of_class": np.where(np.isnan(n)[:, None], np.nan, f1),
    }
