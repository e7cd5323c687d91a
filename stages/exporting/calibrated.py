"""Teachers -> torch modules that answer with calibrated probabilities, ready to become ONNX files.

Both modules map images (N, 3, H, W) to `(logits, probabilities)`, each (N, 7) float32, and keep one
promise: `probabilities == softmax(logits / temperature)`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CalibratedTeacher(nn.Module):
    """One teacher: its own logits, and probabilities at its temperature."""

    def __init__(self, teacher: nn.Module, *, temperature: float) -> None:
        super().__init__()
        self.teacher = teacher
        self.temperature = temperature

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's logits, and probabilities."""
        logits = self.teacher(image)
        return logits, torch.softmax(logits / self.temperature, dim=1)


class CalibratedEnsemble(nn.Module):
    """All teachers in one: fused first, then scaled.

    The logits are the log of the weighted mean of the teachers' raw probabilities:
    z = log sum_k w_k softmax(z_k), taken as a logsumexp so that no class underflows.
    """

    def __init__(
        self, teachers: Sequence[nn.Module], *, weights: Sequence[float], temperature: float
    ) -> None:
        super().__init__()
        # A teacher of weight 0 changes nothing, and log 0 would have no finite place in the graph.
        used = [pair for pair in zip(teachers, weights, strict=True) if pair[1] > 0]
        self.teachers = nn.ModuleList(teacher for teacher, _ in used)
        self.temperature = temperature
        self.log_weights: Tensor
        self.register_buffer("log_weights", torch.tensor([weight for _, weight in used]).log())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The log of the mixture, and probabilities."""
        members = [torch.log_softmax(teacher(image), dim=1) for teacher in self.teachers]
        stacked = torch.stack(members, dim=1) + self.log_weights[:, None]
        logits = torch.logsumexp(stacked, dim=1)
        return logits, torch.softmax(logits / self.temperature, dim=1)
