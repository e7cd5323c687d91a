"""The loss with the stage's one correction of the class prior."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.config import ClassWeights, LogitAdjustment, Prior

Loss = Callable[[Tensor, Tensor], Tensor]


def build_loss(
    prior: Prior, *, counts: np.ndarray, label_smoothing: float, device: torch.device
) -> Loss:
    """Cross entropy of logits (N, 7) and targets (N,), a mean over the batch, float32.

    Args:
        prior: which correction is active. Sampler fill and none leave the loss as it is.
        counts: (7,) rows of each class that one epoch shows to the model; all above zero.
    """
    weight, offset = None, torch.zeros(len(counts), device=device)
    if isinstance(prior, ClassWeights):
        weight = torch.tensor(effective_number_weights(counts, beta=prior.beta), device=device)
    if isinstance(prior, LogitAdjustment):
        offset = torch.tensor(prior_offsets(counts, tau=prior.tau), device=device)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            logits.float() + offset, targets, weight=weight, label_smoothing=label_smoothing
        )

    return loss


def effective_number_weights(counts: np.ndarray, *, beta: float) -> np.ndarray:
    """(1 - beta) / (1 - beta^n) per class, scaled to a mean of 1 (Cui et al., CVPR 2019, eq. 2)."""
    weights = (1 - beta) / (1 - np.power(beta, counts.astype(np.float64)))
    return np.asarray(weights / weights.mean(), dtype=np.float32)


def prior_offsets(counts: np.ndarray, *, tau: float) -> np.ndarray:
    """tau * log(prior), added to the training logits (Menon et al., ICLR 2021, eq. 10)."""
    return np.asarray(tau * np.log(counts / counts.sum()), dtype=np.float32)
