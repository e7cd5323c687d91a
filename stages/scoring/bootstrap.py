"""Sums over rows -> 95 % intervals, by drawing whole groups of rows with replacement."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.scoring.metrics import Floats, Ints
from stages.scoring.noise_floor import NoiseFloor
from stages.scoring.proportion import wilson_interval
from stages.scoring.sums import METRICS, Draws, Layout, metrics_of, row_sums

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
        """The same draws, seen by the rows of the mask (N,) alone."""
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
    """Metrics of all rows and of each draw; `groups` is the number of groups of the rows."""

    found: Draws
    draws: Draws
    groups: int


def resample(groups: Sequence[str], *, samples: int, random: np.random.Generator) -> Resamples:
    """Draw as many groups as there are, with replacement, `samples` times."""
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    counts = np.empty((samples, len(names)), dtype=np.uint8)
    for row in counts:
        drawn = random.integers(len(names), size=len(names))
        row[:] = np.bincount(drawn, minlength=len(names))
    return Resamples(group.astype(np.int64), counts)


def draw(probabilities: Floats, targets: Ints, *, resamples: Resamples, bins: int) -> Drawn:
    """Every metric of these rows and of each draw of them."""
    layout = Layout(probabilities.shape[1], bins)
    sums = row_sums(probabilities, targets, bins=bins)
    return Drawn(
        found=metrics_of(sums.sum(axis=0, keepdims=True), layout=layout),
        draws=metrics_of(resamples.totals(sums), layout=layout),
        groups=resamples.counts.shape[1],
    )


def estimates(drawn: Drawn, *, floor: NoiseFloor) -> dict[str, Estimate]:
    """Each metric of `METRICS` with its interval; `floor` is that of the ECE of these rows.

    Percentiles of the draws, but for the ECE, and Wilson's where all rows are right or none is.
    docs/metrics.md says how often the intervals held the truth of synthetic samples.
    """
    found, draws = drawn.found, drawn.draws
    made = {name: Estimate(float(found[name][0]), percentiles(draws[name])) for name in METRICS}
    made["ece"] = _ece_estimate(made["ece"].value, draws["ece"], floor=floor)
    return made | {
        name: _estimate_of_all(made[name].value, groups=drawn.groups)
        for name in _SHARES
        if made[name].value in (0, 1)
    }


def paired_differences(
    before: Drawn, after: Drawn, *, metrics: Sequence[str]
) -> dict[str, Estimate]:
    """Subtract two models' metrics on the same rows, second minus first, draw by draw."""
    return {
        name: Estimate(
            float((after.found[name] - before.found[name])[0]),
            percentiles(after.draws[name] - before.draws[name]),
        )
        for name in metrics
    }


def f1_estimates(drawn: Drawn) -> list[Estimate]:
    """The F1 of each class with its interval."""
    (f1,), draws = drawn.found["f1_of_class"], drawn.draws["f1_of_class"]
    return [Estimate(float(f1[c]), percentiles(draws[:, c])) for c in range(len(f1))]


def mean_interval(values: Floats, *, resamples: Resamples) -> Interval:
    """The 95 % interval of the mean of row values (N,)."""
    sums, counts = resamples.totals(np.column_stack([values, np.ones_like(values)])).T
    return percentiles(sums / np.where(counts > 0, counts, np.nan))


def percentiles(draws: Floats) -> Interval:
    """The middle 95 % of the draws (B,); draws without a row do not count."""
    low, high = np.quantile(draws[~np.isnan(draws)], [0.025, 0.975])
    return float(low), float(high)


def _ece_estimate(value: float, draws: Floats, *, floor: NoiseFloor) -> Estimate:
    """An ECE with the reflected interval `2 ece - drawn`, widened to hold the ECE.

    A draw's ECE is too large by about as much as the ECE itself, for its bins scatter twice. And
    an ECE that a calibrated model may show, by its floor, may as well be 0.
    """
    low, high = percentiles(draws)
    lowest = 0.0 if value <= floor.percentile_95 else max(0.0, 2 * value - high)
    return Estimate(value, (lowest, max(value, 2 * value - low)))


def _estimate_of_all(value: float, *, groups: int) -> Estimate:
    """All rows are right, or none is: Wilson's interval, each group as one row."""
    low, high = wilson_interval(value * groups, groups)
    return Estimate(value, (float(low), float(high)))
