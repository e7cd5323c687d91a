"""Members' logits -> their mixture, with the class prior put back in each, and its weights."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from stages.calibrating.scaling import ClassNumbers
from stages.scoring.metrics import Floats, Ints, log_probabilities, softmax

Space = Literal["probabilities", "logits"]
Weights = tuple[float, ...]


@dataclass(frozen=True)
class Mixing:
    """Weights of the members, or None to search them, and the space that is mixed in.

    `corrections` (M, 7) take back what training did to the class prior of each member.
    """

    weights: Weights | None
    corrections: tuple[ClassNumbers, ...]
    space: Space = "probabilities"

    def without(self, member: int) -> "Mixing":
        """Leave a member out: given weights keep their proportions, searched ones stay searched."""
        corrections = self.corrections[:member] + self.corrections[member + 1 :]
        if self.weights is None:
            return Mixing(None, corrections, self.space)
        rest = self.weights[:member] + self.weights[member + 1 :]
        total = sum(rest)
        weights = tuple(weight / total if total else 1 / len(rest) for weight in rest)
        return Mixing(weights, corrections, self.space)


def correct(logits: Floats, corrections: tuple[ClassNumbers, ...]) -> Floats:
    """Return probabilities (M, N, 7) of members' logits, for the class prior of their rows."""
    return softmax(logits + np.asarray(corrections)[:, None])


def fuse(members: Floats, weights: Weights, *, space: Space) -> Floats:
    """Mix members' probabilities (M, N, C) into (N, C) with weights that sum to 1.

    In the space of probabilities `sum_i w_i p_i`, in that of logits `softmax(sum_i w_i z_i)`, which
    is the same for `z_i = log p_i`.
    """
    if space == "logits":
        return softmax(np.tensordot(np.asarray(weights), log_probabilities(members), axes=1))
    mixed: Floats = np.tensordot(np.asarray(weights), members, axes=1)
    return mixed


def search_weights(members: Floats, targets: Ints, *, space: Space) -> Weights:
    """Search the weights with the least NLL on these rows, to three digits.

    A mixture of logits is searched over the weights and a temperature: `sum_i b_i z_i` with
    `b_i >= 0` holds both, `w = b / sum b` and `T = 1 / sum b`. Both problems are convex. If a
    mixture of logits is right on every row, the scales grow without end; their proportions still
    serve, and the fit of the temperature says that there is none.
    """
    if (num := len(members)) == 1:
        return (1.0,)
    logits, rows = log_probabilities(members), np.arange(len(targets))
    target_logits, target_shares = logits[:, rows, targets], members[:, rows, targets]

    def nll_of_logits(scales: Floats) -> tuple[float, Floats]:
        mixed = np.tensordot(scales, logits, axes=1)
        loss = logsumexp(mixed, axis=1) - scales @ target_logits
        expected = np.einsum("nc,mnc->mn", softmax(mixed), logits)
        return float(loss.mean()), (expected - target_logits).mean(axis=1)

    def nll_of_probabilities(weights: Floats) -> tuple[float, Floats]:
        mixed = np.maximum(weights @ target_shares, np.finfo(np.float64).tiny)
        return float(-np.log(mixed).mean()), -(target_shares / mixed).mean(axis=1)

    if space == "logits":
        # From 0: a teacher that says nothing stays there.
        start, bounds = np.zeros(num), [(0, None)] * num
        optimum = minimize(nll_of_logits, start, jac=True, method="L-BFGS-B", bounds=bounds)
    else:
        # Of several minima this finds the one nearest to equal weights.
        optimum = minimize(
            nll_of_probabilities,
            np.full(num, 1 / num),
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * num,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
            options={"ftol": 1e-10, "maxiter": 500},
        )
    scales = np.asarray(optimum.x) if optimum.x.sum() > 0 else np.ones(num)
    weights = np.round(scales / scales.sum(), 3)
    weights[weights.argmax()] += 1 - weights.sum()
    return tuple(round(float(weight), 3) for weight in weights)
