"""How numbers are made: the part of `calibrate` and of the seed that every number shares."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from stages.config import Calibrate
from stages.runtime.seed import generator
from stages.scoring.bootstrap import Resamples, resample
from stages.scoring.metrics import Ints


@dataclass(frozen=True)
class Protocol:
    """The same groups always get the same folds and the same draws: that is what pairs models."""

    report: Literal["test", "val_crossfit"]
    bins: int
    folds: int
    bootstrap_samples: int
    seed: int

    def resamples(self, groups: Iterable[str]) -> Resamples:
        """Bootstrap draws of whole groups, for one group a row (N,)."""
        return _resamples(tuple(groups), samples=self.bootstrap_samples, seed=self.seed)

    def fold_of(self, groups: Iterable[str]) -> Ints:
        """A fold 0..folds-1 for each row, (N,); rows of a group share theirs.

        Of fewer groups than folds each is a fold of its own.
        """
        names, position = np.unique(np.asarray(tuple(groups), dtype=str), return_inverse=True)
        random = generator(self.seed, "calibrate", "folds")
        order: Ints = random.permutation(len(names)) % self.folds
        return order[position]


def protocol_of(settings: Calibrate, *, seed: int) -> Protocol:
    """The protocol that params.yaml states."""
    return Protocol(
        report=settings.report,
        bins=settings.bins,
        folds=settings.folds,
        bootstrap_samples=settings.bootstrap_samples,
        seed=seed,
    )


@lru_cache(maxsize=64)
def _resamples(groups: tuple[str, ...], *, samples: int, seed: int) -> Resamples:
    random = generator(seed, "calibrate", "bootstrap")
    return resample(groups, samples=samples, random=random)
