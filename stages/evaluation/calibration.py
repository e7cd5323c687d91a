"""Members' probabilities on val -> fusion weights and temperature, fitted once or by folds.

A single teacher is a fusion of one. First the members are mixed, then the mixture is scaled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stages.evaluation.fusion import fuse
from stages.evaluation.metrics import Floats, Ints, log_probabilities
from stages.evaluation.temperature import fit_temperature, scale
from stages.runtime.errors import UserError

WeightRule = Callable[[Sequence[Floats], Ints], tuple[float, ...]]


@dataclass(frozen=True)
class Pair:
    """The same rows before and after temperature scaling, each (N, 7)."""

    raw: Floats
    scaled: Floats


@dataclass(frozen=True)
class Calibration:
    """What was fitted: a weight per member and the temperature of their mixture."""

    weights: tuple[float, ...]
    temperature: float

    def apply(self, members: Sequence[Floats]) -> Pair:
        """Mix, then scale, any rows of the same members."""
        raw = fuse(members, self.weights)
        return Pair(raw=raw, scaled=scale(raw, self.temperature))


def fixed(*weights: float) -> WeightRule:
    """The rule that knows its weights beforehand."""
    return lambda _members, _targets: weights


def fit(members: Sequence[Floats], targets: Ints, *, rule: WeightRule, name: str) -> Calibration:
    """Fit weights and temperature on these rows and no others."""
    weights = rule(members, targets)
    logits = log_probabilities(fuse(members, weights))
    return Calibration(weights, fit_temperature(logits, targets, name=name))


def crossfit(
    members: Sequence[Floats], targets: Ints, *, fold: Ints, rule: WeightRule, name: str
) -> Pair:
    """Scale each fold of the rows by what was fitted on the other folds."""
    raw, scaled = np.empty_like(members[0]), np.empty_like(members[0])
    for held in np.unique(fold):
        out, rest = fold == held, fold != held
        fitted = fit(
            [member[rest] for member in members],
            targets[rest],
            rule=rule,
            name=f"{name}, fold {held}",
        )
        pair = fitted.apply([member[out] for member in members])
        raw[out], scaled[out] = pair.raw, pair.scaled
    return Pair(raw, scaled)


def assign_folds(groups: Sequence[str], *, folds: int, random: np.random.Generator) -> Ints:
    """A fold 0..folds-1 for each row, (N,); rows of a group share theirs.

    Raises:
        UserError: if there are fewer groups than folds.
    """
    names, position = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < folds:
        raise UserError(
            f"params.yaml: calibrate.folds: {folds} folds need as many groups of val rows, "
            f"found {len(names)}"
        )
    order: Ints = random.permutation(len(names)) % folds
    return order[position]
