"""The ArcFace head (https://arxiv.org/abs/1801.07698) and its margin over the epochs."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.config import Arcface

_LEAST_SIN_SQUARED = 1e-12


class ArcfaceHead(nn.Module):
    """`scale * cos(theta)` between an embedding and seven class directions, always in float32."""

    def __init__(self, embedding_size: int, *, num_classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_size))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, embedding: Tensor) -> Tensor:
        """Compute logits (N, num_classes) of embeddings (N, E), without margin."""
        return self.scale * self._cosine(embedding)

    def training_logits(self, embedding: Tensor, targets: Tensor, *, margin_rad: float) -> Tensor:
        """Compute logits in which the target's angle is widened: `scale * cos(theta + margin_rad)`.

        Past `theta + margin_rad = pi`, where the cosine would rise again, the target's logit is
        `scale * (cos(theta) - margin_rad * sin(margin_rad))`, as in the authors' code: it goes on
        falling with theta. A margin of 0 gives `forward` exactly.
        """
        cosine = self._cosine(embedding)
        if margin_rad == 0:
            return self.scale * cosine
        column = targets.unsqueeze(1)
        widened = _add_margin(cosine.gather(1, column), margin_rad)
        return self.scale * cosine.scatter(1, column, widened)

    def _cosine(self, embedding: Tensor) -> Tensor:
        # Half precision would round a cosine of 0.99 by 4e-3, and the scale makes 0.1 of that.
        with torch.autocast(embedding.device.type, enabled=False):
            directions = functional.normalize(self.weight)
            embedding = functional.normalize(embedding.to(directions.dtype))
            return functional.linear(embedding, directions)


def margin_at(epoch: float, arcface: Arcface) -> float:
    """Return the margin at a (fractional) epoch: 0 in warm-up, a linear ramp, `margin_rad`."""
    if epoch < arcface.warmup_epochs:
        return 0.0
    if epoch >= arcface.ramp_end_epoch:
        return arcface.margin_rad
    ramp_epochs = arcface.ramp_end_epoch - arcface.warmup_epochs
    return arcface.margin_rad * (epoch - arcface.warmup_epochs) / ramp_epochs


def _add_margin(cosine: Tensor, margin_rad: float) -> Tensor:
    """cos(theta + m) by the addition theorem; acos has no finite gradient at theta = 0."""
    sine = ((1 - cosine) * (1 + cosine)).clamp_min(_LEAST_SIN_SQUARED).sqrt()
    widened = cosine * math.cos(margin_rad) - sine * math.sin(margin_rad)
    falling = cosine - margin_rad * math.sin(margin_rad)
    return torch.where(cosine >= -math.cos(margin_rad), widened, falling)
