"""The ArcFace head (https://arxiv.org/abs/1801.07698) and its margin over the epochs."""

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
        """Compute logits in which each class's angle is widened by its share of the target.

        Targets are classes (N,) or shares (N, C) of them. With the margin m, a share t of a class
        makes `scale * cos(theta + m * t)`. Past `theta + m * t = pi`, where the cosine would rise
        again, it is `scale * (cos(theta) - m * t * sin(m * t))`, as in the authors' code: it goes
        on falling with theta. A margin of 0 gives `forward` exactly.
        """
        cosine = self._cosine(embedding)
        if margin_rad == 0:
            return self.scale * cosine
        if targets.ndim == 1:
            # Not one_hot, which reads its classes from the device.
            classes = torch.arange(len(self.weight), device=targets.device)
            targets = targets[:, None] == classes
        return self.scale * _add_margin(cosine, targets.double() * margin_rad)

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


def _add_margin(cosine: Tensor, margins: Tensor) -> Tensor:
    """cos(theta + m) by the addition theorem; acos has no finite gradient at theta = 0.

    `margins` (N, C) are float64, so that sine and cosine of them are rounded once.
    """
    dtype = cosine.dtype
    sine = ((1 - cosine) * (1 + cosine)).clamp_min(_LEAST_SIN_SQUARED).sqrt()
    of_margin, falling = margins.cos().to(dtype), (margins * margins.sin()).to(dtype)
    widened = cosine * of_margin - sine * margins.sin().to(dtype)
    return torch.where(cosine >= -of_margin, widened, cosine - falling)
