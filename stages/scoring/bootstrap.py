"""Rows -> 95 % intervals of every metric, by drawing whole groups of rows with replacement.

What a row adds to a metric is a sum over rows, so a draw is a weighted sum: the value of all rows
and a thousand draws come from one matrix product and one piece of code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.scoring.confidence import NoiseFloor, wilson_interval
from stages.scoring.metrics import Floats, Ints, bin_of, row_brier, row_kl, row_nll

# Metrics that have an interval; `f1_of_class` (B, C) comes besides.
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece")

Interval = tuple[float, float]

_CHUNK = 64
# Shares of rows: where all rows agree, so do all draws.
_SHARES = ("accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class Resamples:
    """Draws of whole groups. Two models under the same `Resamples` are compared in pairs.

    `group` (N,) numbers each row's group 0..G-1; `counts` (B, G) says how often a draw took it.
    """

    group: Ints
    counts: npt.NDArray[np.uint8]

    def only(self, mask: npt.NDArray[np.bool_]) -> "Resamples":
        """Restrict the same draws to the rows of the mask (N,)."""
        kept, group = np.unique(self.group[mask], return_inverse=True)
        return Resamples(group.astype(np.int64), self.counts[:, kept])

    def totals(self, values: Floats) -> Floats:
        """Sums (B, K) of row values (N, K) in each draw."""
        order = np.argsort(self.group, kind="stable")
        starts = np.flatnonzero(np.diff(self.group[order], prepend=-1))
        by_group = np.add.reduceat(values[order], starts, axis=0)
        chunks = range(0, len(self.counts), _CHUNK)
        return np.concatenate([self.counts[at : at + _CHUNK] @ by_group for at in chunks])


@dataclass(frozen=True)
class Estimate:
    """A metric of all rows and its nominal 95 % interval."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Drawn:
    """Metrics by name: `metrics` of all rows, (1,), and `draws`, (B,); F1 has a column a class.

    `groups` is the number of groups of the rows.
    """

    metrics: dict[str, Floats]
    draws: dict[str, Floats]
    groups: int


def resample(groups: Sequence[str], *, samples: int, random: np.random.Generator) -> Resamples:
    """Draw as many groups as there are, with replacement, `samples` times."""
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    counts = np.empty((samples, len(names)), dtype=np.uint8)
    for row in counts:
        drawn = random.integers(len(names), size=len(names))
        row[:] = np.bincount(drawn, minlength=len(names))
    return Resamples(group.astype(np.int64), counts)


def draw(
    probabilities: Floats, targets: Ints, *, named: Ints, resamples: Resamples, bins: int
) -> Drawn:
    """Compute every metric of these rows (N, C), and of each draw of them.

    `named` (N,) are the classes that the model names: accuracy and F1 judge these. The ECE judges
    the most probable class. What each row adds is, for C classes and B bins of equal width: a
    confusion matrix (C * C: actual, named), confidence minus hit in each bin (B), NLL and Brier
    score.
    """
    n, classes = probabilities.shape
    rows, confidence = np.arange(n), probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == targets
    sums = np.zeros((n, classes**2 + bins + 2))
    sums[rows, targets * classes + named] = 1
    sums[rows, classes**2 + bin_of(confidence, bins=bins)] = confidence - hits
    sums[:, -2] = row_nll(probabilities, targets)
    sums[:, -1] = row_brier(probabilities, targets)
    return Drawn(
        metrics=metrics_of(sums.sum(axis=0, keepdims=True), classes=classes),
        draws=metrics_of(resamples.totals(sums), classes=classes),
        groups=resamples.counts.shape[1],
    )


def metrics_of(totals: Floats, *, classes: int) -> dict[str, Floats]:
    """The metrics (B,) and (B, C) of totals (B, K) of what rows add; NaN for a draw without rows.

    Macro-F1 is the mean over all classes, balanced accuracy over those in the rows. The ECE is
    `sum_b |confidence_b - hits_b| / n` (Guo 2017).
    """
    confusion = totals[:, : classes**2].reshape(-1, classes, classes)
    gaps = totals[:, classes**2 : -2]
    n = confusion.sum(axis=(1, 2))
    n = np.where(n > 0, n, np.nan)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    actual, f1 = confusion.sum(axis=2), f1_of_classes(confusion)
    recall = np.where(actual > 0, hits / np.maximum(actual, 1), 0.0)
    present = (actual > 0).sum(axis=1)
    return {
        "accuracy": hits.sum(axis=1) / n,
        "balanced_accuracy": recall.sum(axis=1) / np.where(present > 0, present, np.nan),
        "macro_f1": np.where(np.isnan(n), np.nan, f1.mean(axis=1)),
        "nll": totals[:, -2] / n,
        "brier": totals[:, -1] / n,
        "ece": np.abs(gaps).sum(axis=1) / n,
        "f1_of_class": np.where(np.isnan(n)[:, None], np.nan, f1),
    }


def f1_of_classes(confusion: Floats) -> Floats:
    """F1 (..., C) of confusion matrices (..., C, C: actual, named); 0 for a class in neither."""
    claims = confusion.sum(axis=-2) + confusion.sum(axis=-1)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    result: Floats = np.where(claims > 0, 2 * hits / np.maximum(claims, 1), 0.0)
    return result


def estimates(drawn: Drawn, *, floor: NoiseFloor) -> dict[str, Estimate]:
    """Each metric of `METRICS` with its interval; `floor` is that of the ECE of these rows.

    The ECE has the reflected interval `2 ece - drawn`, widened to hold the ECE: the ECE of a draw
    is too large by about as much as the ECE itself, for its bins scatter twice. And an ECE that a
    calibrated model may show, by its floor, may as well be 0. docs/metrics.md says how often the
    intervals held the truth of synthetic samples.
    """
    made = {name: estimate(drawn, name) for name in METRICS}
    ece, (low, high) = made["ece"].value, made["ece"].interval
    lowest = 0.0 if ece <= floor.percentile_95 else max(0.0, 2 * ece - high)
    return made | {"ece": Estimate(ece, (lowest, max(ece, 2 * ece - low)))}


def estimate(drawn: Drawn, name: str) -> Estimate:
    """A metric with the percentiles of its draws.

    Where all rows are right or all are wrong, a share has Wilson's interval, each group taken as
    one row.
    """
    value, interval = float(drawn.metrics[name][0]), percentiles(drawn.draws[name])
    if name in _SHARES and value in (0, 1):
        low, high = wilson_interval(value * drawn.groups, drawn.groups)
        interval = (float(low), float(high))
    return Estimate(value, interval)


def paired_differences(
    before: Drawn, after: Drawn, *, metrics: Sequence[str]
) -> dict[str, Estimate]:
    """Subtract two models' metrics on the same rows, second minus first, draw by draw."""
    return {
        name: Estimate(
            float((after.metrics[name] - before.metrics[name])[0]),
            percentiles(after.draws[name] - before.draws[name]),
        )
        for name in metrics
    }


def f1_estimates(drawn: Drawn) -> list[Estimate]:
    """The F1 of each class with its interval."""
    (f1,), draws = drawn.metrics["f1_of_class"], drawn.draws["f1_of_class"]
    return [Estimate(float(f1[c]), percentiles(draws[:, c])) for c in range(len(f1))]


def kl_estimate(probabilities: Floats, shares: Floats, *, resamples: Resamples) -> Estimate:
    """The mean KL of probabilities to the crowd's votes (N, C), with its interval."""
    kl = row_kl(probabilities, shares)
    return Estimate(float(kl.mean()), mean_interval(kl, resamples=resamples))


def mean_interval(values: Floats, *, resamples: Resamples) -> Interval:
    """The 95 % interval of the mean of row values (N,)."""
    sums, counts = resamples.totals(np.column_stack([values, np.ones_like(values)])).T
    return percentiles(sums / np.where(counts > 0, counts, np.nan))


def percentiles(draws: Floats) -> Interval:
    """The middle 95 % of the draws (B,); draws without a row do not count."""
    low, high = np.quantile(draws[~np.isnan(draws)], [0.025, 0.975])
    return float(low), float(high)
