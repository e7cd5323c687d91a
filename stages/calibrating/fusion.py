"""Probabilities of several teachers -> one mixture, of probabilities or of logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from stages.scoring.metrics import Floats, Ints, log_probabilities, softmax

Space = Literal["probabilities", "logits"]
Weights = tuple[float, ...]

_DIGITS = 3


@dataclass(frozen=True)
class Mixing:
    """Weights of the members, or None to search them, and the space that is mixed in."""

    weights: Weights | None
    space: Space = "probabilities"

    def weights_for(self, members: Floats, targets: Ints) -> Weights:
        """Return the given weights, or search those that fit these rows best."""
        if self.weights is not None:
            return self.weights
        return search_weights(members, targets, space=self.space)

    def without(self, member: int) -> "Mixing":
        """Leave a member out: given weights keep their proportions, searched ones stay searched."""
        if self.weights is None:
            return self
        kept = [weight for number, weight in enumerate(self.weights) if number != member]
        return Mixing(in_proportion(kept), self.space)


def fuse(members: Floats, weights: Weights, *, space: Space) -> Floats:
    """Mix members' probabilities (M, N, C) into (N, C) with weights that sum to 1.

    In the space of probabilities `sum_i w_i p_i`, in that of logits `softmax(sum_i w_i z_i)`, which
    is the same for `z_i = log p_i`.
    """
    if space == "logits":
        return softmax(np.tensordot(np.asarray(weights), log_probabilities(members), axes=1))
    mixed: Floats = np.tensordot(np.asarray(weights), members, axes=1)
    return mixed


def in_proportion(weights: Sequence[float]) -> Weights:
    """Scale weights to shares of their sum; return equal shares if all are 0."""
    total = sum(weights)
    return tuple(weight / total if total else 1 / len(weights) for weight in weights)


def search_weights(members: Floats, targets: Ints, *, space: Space) -> Weights:
    """Search the weights with the least NLL on these rows, to three digits."""
    if len(members) == 1:
        return (1.0,)
    search = _search_logits if space == "logits" else _search_probabilities
    scales = search(members, targets)
    if scales.sum() <= 0:
        scales = np.ones_like(scales)
    weights = np.round(scales / scales.sum(), _DIGITS)
    weights[weights.argmax()] += 1 - weights.sum()
    return tuple(round(float(weight), _DIGITS) for weight in weights)


def _search_probabilities(members: Floats, targets: Ints) -> Floats:
    """Minimize the NLL of the mixture of probabilities, a convex problem, from equal weights.

    Of several minima it finds the one nearest to equal weights.
    """
    of_target = members[:, np.arange(len(targets)), targets]

    def nll(weights: Floats) -> tuple[float, Floats]:
        mixed = np.maximum(weights @ of_target, np.finfo(np.float64).tiny)
        return float(-np.log(mixed).mean()), -(of_target / mixed).mean(axis=1)

    num = len(members)
    optimum = minimize(
        nll,
        np.full(num, 1 / num),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * num,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-10, "maxiter": 500},
    )
    return np.asarray(optimum.x)


def _search_logits(members: Floats, targets: Ints) -> Floats:
    """Minimize the NLL of the mixture of logits over the weights and a temperature.

    `sum_i b_i z_i` with `b_i >= 0` holds both, `w = b / sum b` and `T = 1 / sum b`, and is convex.
    If a mixture is right on every row, the scales grow without end; their proportions still serve,
    and the fit of the temperature says that there is none.
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
    optimum = minimize(nll, np.zeros(num), jac=True, method="L-BFGS-B", bounds=[(0, None)] * num)
    return np.asarray(optimum.x)
