"""Probabilities of several teachers -> one mixture, of probabilities or of logits."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from stages.scoring.metrics import Floats, Ints, log_probabilities, softmax

Space = Literal["probabilities", "logits"]
Weights = tuple[float, ...]

_DIGITS = 3


def fuse(members: Floats, weights: Weights, *, space: Space) -> Floats:
    """The mixture (N, C) of members' probabilities (M, N, C) with weights that sum to 1.

    Of probabilities it is `sum_i w_i p_i`, of logits `softmax(sum_i w_i z_i)`, which is the same
    for `z_i = log p_i`.
    """
    if space == "logits":
        return softmax(np.tensordot(np.asarray(weights), log_probabilities(members), axes=1))
    result: Floats = np.tensordot(np.asarray(weights), members, axes=1)
    return result


def in_proportion(weights: Sequence[float]) -> Weights:
    """Weights as shares of their sum; even ones if they are all 0."""
    total = sum(weights)
    return tuple(weight / total if total else 1 / len(weights) for weight in weights)


def search_weights(members: Floats, targets: Ints, *, space: Space) -> Weights:
    """The weights that fit these rows best, to three digits; any number of teachers."""
    if len(members) == 1:
        return (1.0,)
    search = _search_of_logits if space == "logits" else _search_of_probabilities
    return search(members, targets)


def _search_of_probabilities(members: Floats, targets: Ints) -> Weights:
    """The weights with the least NLL of the mixture of probabilities: a convex problem.

    To three digits; of equal minima the most even one.
    """
    of_target = members[:, np.arange(len(targets)), targets]

    def nll(weights: Floats) -> tuple[float, Floats]:
        mixed = np.maximum(weights @ of_target, np.finfo(np.float64).tiny)
        return float(-np.log(mixed).mean()), -(of_target / mixed).mean(axis=1)

    num = len(members)
    found = minimize(
        nll,
        np.full(num, 1 / num),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * num,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-10, "maxiter": 500},
    )
    return _rounded(found.x)


def _search_of_logits(members: Floats, targets: Ints) -> Weights:
    """The weights with the least NLL of the mixture of logits, whatever its temperature.

    `sum_i b_i z_i` with `b_i >= 0` holds both, `w = b / sum b` and `T = 1 / sum b`, and is convex.
    To three digits. Where a mixture is right on every row the scales have no end; their proportions
    serve all the same, and that there is no temperature is found where it is fitted.
    """
    logits = log_probabilities(members)
    of_target = logits[:, np.arange(len(targets)), targets]

    def nll(scales: Floats) -> tuple[float, Floats]:
        mixed = np.tensordot(scales, logits, axes=1)
        loss = logsumexp(mixed, axis=1) - scales @ of_target
        expected = np.einsum("nc,mnc->mn", softmax(mixed), logits)
        return float(loss.mean()), (expected - of_target).mean(axis=1)

    num = len(members)
    # From 0: a teacher that says nothing stays there.
    found = minimize(nll, np.zeros(num), jac=True, method="L-BFGS-B", bounds=[(0, None)] * num)
    return _rounded(found.x)


def _rounded(scales: Floats) -> Weights:
    """Scales as weights of three digits that sum to 1; even ones if no scale is above 0."""
    if scales.sum() <= 0:
        scales = np.ones_like(scales)
    weights = np.round(scales / scales.sum(), _DIGITS)
    weights[weights.argmax()] += 1 - weights.sum()
    return tuple(round(float(weight), _DIGITS) for weight in weights)
