"""Members' logits -> their mixture, with the class prior put back in each, and its weights."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from stages.calibrating.scaling import ClassNumbers
from stages.scoring.metrics import Floats, Ints, log_probabilities, softmax
from stages.scoring.temperature import fit_temperature, one_hot

Space = Literal["probabilities", "logits"]
Weights = tuple[float, ...]

_LEAST = 1e-12  # of a probability in the search: a slope stays finite


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

    It is the NLL of the mixture scaled by the temperature that fits it: unscaled, the surest of
    members that say too little, as those that learnt from votes do, would get all the weight. The
    search is over scales `s_i >= 0`, with `w = s / sum s` and `T = 1 / sum s`. In the space of
    logits it is convex, else a local minimum will do. If a mixture is right on every row, the
    scales grow without end; their proportions still serve, and the fit of the temperature says
    that there is none.
    """
    if (num := len(members)) == 1:
        return (1.0,)
    members, rows = np.maximum(members, _LEAST), np.arange(len(targets))
    logits = np.log(members)

    def nll(scales: Floats) -> tuple[float, Floats]:
        if space == "logits":
            scaled, by_scale = np.tensordot(scales, logits, axes=1), logits
        else:
            mixture = np.maximum(np.tensordot(scales, members, axes=1), _LEAST**2)
            # For a row's softmax it does not matter that the mixture sums to `scales.sum()`.
            scaled = scales.sum() * np.log(mixture)
            by_scale = np.log(mixture) + scales.sum() * members / mixture
        excess = softmax(scaled)
        loss = logsumexp(scaled, axis=1) - scaled[rows, targets]
        excess[rows, targets] -= 1
        return float(loss.mean()), np.einsum("nc,mnc->m", excess, by_scale) / len(rows)

    # Of logits from 0: a teacher that says nothing stays there. Else from equal weights and the
    # temperature that fits them: far from it the first step could end at 0, where no slope is.
    start = np.zeros(num)
    if space == "probabilities":
        start += 1 / num / fit_temperature(np.log(members.mean(axis=0)), one_hot(targets)).value
    optimum = minimize(nll, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * num)
    scales = np.asarray(optimum.x) if optimum.x.sum() > 0 else np.ones(num)
    weights = np.round(scales / scales.sum(), 3)
    weights[weights.argmax()] += 1 - weights.sum()
    return tuple(round(float(weight), 3) for weight in weights)
