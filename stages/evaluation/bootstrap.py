"""Row-wise evidence -> 95 % intervals, by drawing whole groups of rows with replacement.

Accuracy, macro-F1, NLL and ECE are functions of sums over rows. So a draw is a weighted sum of each
group's sums, and a thousand draws are one matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.evaluation.metrics import Floats, Ints, row_nll
from stages.evaluation.reliability import bin_of

INTERVAL_METRICS = ("accuracy", "macro_f1", "nll", "ece")

Draws = dict[str, Floats]
Interval = tuple[float, float]

_CHUNK = 64


@dataclass(frozen=True)
class Resamples:
    """Draws of whole groups. Two models under the same `Resamples` are compared in pairs.

    `group` (N,) numbers each row's group 0..G-1; `counts` (B, G) says how often a draw took it.
    """

    group: Ints
    counts: npt.NDArray[np.uint8]

    def only(self, mask: npt.NDArray[np.bool_]) -> "Resamples":
        """The same draws, seen by the rows of the mask (N,) alone."""
        kept, group = np.unique(self.group[mask], return_inverse=True)
        return Resamples(group.astype(np.int64), self.counts[:, kept])

    def totals(self, values: Floats) -> Floats:
        """Sums (B, K) of row values (N, K) in each draw."""
        by_group = np.zeros((self.counts.shape[1], values.shape[1]))
        np.add.at(by_group, self.group, values)
        chunks = range(0, len(self.counts), _CHUNK)
        return np.concatenate([self.counts[at : at + _CHUNK] @ by_group for at in chunks])


def resample(groups: Sequence[str], *, samples: int, random: np.random.Generator) -> Resamples:
    """Draw as many groups as there are, with replacement, `samples` times."""
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    counts = np.empty((samples, len(names)), dtype=np.uint8)
    for row in counts:
        drawn = random.integers(len(names), size=len(names))
        row[:] = np.bincount(drawn, minlength=len(names))
    return Resamples(group.astype(np.int64), counts)


def row_sums(probabilities: Floats, targets: Ints, *, bins: int) -> Floats:
    """What each row adds, (N, C*C + bins + 1): confusion cell, confidence gap in its bin, NLL."""
    n, classes = probabilities.shape
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    sums = np.zeros((n, classes * classes + bins + 1))
    rows = np.arange(n)
    sums[rows, targets * classes + predicted] = 1
    position = classes * classes + bin_of(confidence, bins=bins)
    sums[rows, position] = confidence - (predicted == targets)
    sums[:, -1] = row_nll(probabilities, targets)
    return sums


def metrics_of(totals: Floats, *, classes: int) -> Draws:
    """The metrics (B,) of sums (B, K) over rows; NaN for a draw without rows."""
    confusion = totals[:, : classes * classes].reshape(-1, classes, classes)
    gaps, nll = totals[:, classes * classes : -1], totals[:, -1]
    n = confusion.sum(axis=(1, 2))
    n = np.where(n > 0, n, np.nan)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    claims = confusion.sum(axis=1) + confusion.sum(axis=2)
    f1 = np.where(claims > 0, 2 * hits / np.maximum(claims, 1), 0.0)
    return {
        "accuracy": hits.sum(axis=1) / n,
        "macro_f1": np.where(np.isnan(n), np.nan, f1.mean(axis=1)),
        "nll": nll / n,
        "ece": np.abs(gaps).sum(axis=1) / n,
    }


def draw_metrics(probabilities: Floats, targets: Ints, *, resamples: Resamples, bins: int) -> Draws:
    """The metrics of each draw, (B,)."""
    totals = resamples.totals(row_sums(probabilities, targets, bins=bins))
    return metrics_of(totals, classes=probabilities.shape[1])


def intervals(
    probabilities: Floats, targets: Ints, *, resamples: Resamples, bins: int
) -> dict[str, Interval]:
    """The nominal 95 % interval of each metric of `INTERVAL_METRICS`.

    Percentiles of the draws, but for ECE. On synthetic truths (400 rows, 300 samples) they held it
    in .94 to .95 of samples for accuracy, macro-F1 and NLL, in .89 to .97 for ECE.
    """
    classes = probabilities.shape[1]
    sums = row_sums(probabilities, targets, bins=bins)
    totals, seen = resamples.totals(sums), sums.sum(axis=0, keepdims=True)
    draws = metrics_of(totals, classes=classes)
    found = {name: percentiles(draws[name]) for name in INTERVAL_METRICS}
    noise = np.abs(totals - seen)[:, classes * classes : -1].sum(axis=1) / len(targets)
    ece = float(metrics_of(seen, classes=classes)["ece"][0])
    return found | {"ece": _ece_interval(ece, found["ece"], noise=noise)}


def _ece_interval(ece: float, drawn: Interval, *, noise: Floats) -> Interval:
    """The reflected interval `2 ece - drawn`, widened to hold the ECE.

    A draw's ECE is too large by about as much as the ECE itself, for its bins scatter twice. And
    an ECE within `noise`, what the bins of a calibrated model scatter, may as well be 0.
    """
    low, high = drawn
    is_noise = ece <= percentiles(noise)[1]
    return (0.0 if is_noise else max(0.0, 2 * ece - high)), max(ece, 2 * ece - low)


def percentiles(draws: Floats) -> Interval:
    """The middle 95 % of the draws."""
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)
