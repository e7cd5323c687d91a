"""The loss with the stage's one correction of the class prior."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.config import ClassWeights, LogitAdjustment, Prior


@dataclass(frozen=True)
class Loss:
    """Cross entropy, float32.

    Args:
        offset: (7,), added to the logits.
        weight: (7,), how much a row of each class counts in a mean; None: all rows the same.
    """

    offset: Tensor
    weight: Tensor | None
    label_smoothing: float

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the rows of logits (N, 7) and targets (N,)."""
        return F.cross_entropy(
            logits.float() + self.offset,
            targets,
            weight=self.weight,
            label_smoothing=self.label_smoothing,
        )


def build_loss(
    prior: Prior, *, counts: np.ndarray, label_smoothing: float, device: torch.device
) -> Loss:
    """The loss of a stage.

    Args:
        prior: which correction is active. Sampler fill and none leave the loss as it is.
        counts: (7,) rows of each class that one epoch shows to the model; all above zero.
    """
    weight, offset = None, torch.zeros(len(counts), device=device)
    if isinstance(prior, ClassWeights):
        weight = torch.tensor(effective_number_weights(counts, beta=prior.beta), device=device)
    if isinstance(prior, LogitAdjustment):
        offset = torch.tensor(prior_offsets(counts, tau=prior.tau), device=device)
    return Loss(offset, weight, label_smoothing)


def effective_number_weights(counts: np.ndarray, *, beta: float) -> np.ndarray:
    """(1 - beta) / (1 - beta^n) per class, scaled to a mean of 1 (Cui et al., CVPR 2019, eq. 2)."""
    weights = (1 - beta) / (1 - np.power(beta, counts.astype(np.float64)))
    return np.asarray(weights / weights.mean(), dtype=np.float32)


def prior_offsets(counts: np.ndarray, *, tau: float) -> np.ndarray:
    """tau * log(prior), added to the training logits (Menon et al., ICLR 2021, eq. 10)."""
    return np.asarray(tau * np.log(counts / counts.sum()), dtype=np.float32)
