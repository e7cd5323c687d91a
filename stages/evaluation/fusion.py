"""Probabilities of several teachers -> one mixture, with fixed or searched weights."""

import itertools
from collections.abc import Sequence

import numpy as np

from stages.evaluation.metrics import Floats, Ints, log_probabilities


def fuse(members: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """The mixture `sum_i w_i p_i`, (N, C), of members (N, C) with weights that sum to 1."""
    result: Floats = np.tensordot(np.asarray(weights), np.stack(members), axes=1)
    return result


def search_weights(members: Sequence[Floats], targets: Ints) -> tuple[float, ...]:
    """The weights on a grid of the simplex with the least NLL of the (unscaled) mixture.

    The grid's step is 0.05 up to four teachers, 0.1 above. Of equal minima the one that weighs
    the first teachers most is taken.
    """
    grid = simplex_grid(len(members), steps=20 if len(members) <= 4 else 10)
    of_target = np.stack([member[np.arange(len(targets)), targets] for member in members])
    nll = [-log_probabilities(weights @ of_target).mean() for weights in grid]
    return tuple(float(weight) for weight in grid[int(np.argmin(nll))])


def simplex_grid(size: int, *, steps: int) -> Floats:
    """All weights (M, size) that are multiples of 1/steps and sum to 1, first weights first."""
    # Stars and bars: a choice of size-1 bars among steps+size-1 places is one way to share.
    bars = itertools.combinations(range(steps + size - 1), size - 1)
    ends = np.array([(-1, *places, steps + size - 1) for places in bars], dtype=np.int64)
    shares = np.diff(ends, axis=1) - 1
    result: Floats = shares[::-1] / steps
    return result
