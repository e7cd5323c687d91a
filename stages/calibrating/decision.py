"""Probabilities -> the class that is named: `argmax p / shares^exponent`, and how it is chosen.

At exponent 0 it is the most probable class. A larger one names rare classes more often, which may
raise the macro-F1 and costs accuracy: what is wanted is the user's to say. `shares` are those of
the classes among the val rows that p was fitted on.
"""

from dataclasses import dataclass

import numpy as np

from stages.calibrating.refinement import Trial
from stages.scoring.bootstrap import Resamples, draw, f1_of_classes, paired_differences
from stages.scoring.metrics import Floats, Ints

RULE = "argmax of probabilities / val_shares ** exponent; the first of equals"
EXPONENTS: Floats = np.arange(21) / 20


def name_classes(probabilities: Floats, shares: Floats, *, exponent: float) -> Ints:
    """Name the class (N,) of probabilities (N, 7), given shares (7,) or of each row (N, 7)."""
    named: Ints = (probabilities * shares**-exponent).argmax(axis=1)
    return named


@dataclass(frozen=True)
class ExponentTrial:
    """The exponent with the best macro-F1 on held-out folds, and whether its gain is real."""

    exponent: float
    gain_is_real: bool
    reason: str


def try_exponents(
    trial: Trial, targets: Ints, *, fold: Ints, resamples: Resamples
) -> ExponentTrial:
    """Choose an exponent by the held-out probabilities of the refinement that was taken.

    Its gain is judged by folds: each names its rows by the exponent that the other folds choose.
    """
    probabilities = trial.held_out.get(trial.taken)
    if probabilities is None:
        return ExponentTrial(0.0, False, "no exponent could be tried: not every fold has a fit")
    if (trial.shares == 0).any():
        return ExponentTrial(0.0, False, "no exponent could be tried: a class has too few rows")
    folds = [fold == held for held in np.unique(fold)]
    named = [name_classes(probabilities, trial.shares, exponent=a) for a in EXPONENTS]
    confusion = np.array(
        [
            [np.bincount(7 * targets[out] + labels[out], minlength=49) for out in folds]
            for labels in named
        ]
    ).reshape(len(EXPONENTS), len(folds), 7, 7)
    total = confusion.sum(axis=1)
    best = f1_of_classes(total).mean(axis=1).argmax()
    held_out = np.empty_like(targets)
    for number, out in enumerate(folds):
        others = f1_of_classes(total - confusion[:, number]).mean(axis=1).argmax()
        held_out[out] = named[others][out]
    before, after = (
        draw(probabilities, targets, named=labels, resamples=resamples, bins=1)
        for labels in (named[0], held_out)
    )
    gain = paired_differences(before, after, metrics=("macro_f1",))["macro_f1"]
    is_real = gain.interval[0] > 0
    words = "is real" if is_real else "is not real"
    low, high = gain.interval
    reason = f"its gain in macro-F1 {words} on held-out folds: {gain.value:+.3f} "
    return ExponentTrial(float(EXPONENTS[best]), is_real, f"{reason}[{low:+.3f}, {high:+.3f}]")
