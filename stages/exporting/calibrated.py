"""Teachers -> torch modules that answer with calibrated probabilities, ready to become ONNX files.

Both modules map images (N, 3, H, W) to `(logits, probabilities)`, each (N, 7) float32, and keep one
promise: `probabilities == softmax(logits / temperature + class_bias)`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.calibrating.calibration import Calibration


class CalibratedTeacher(nn.Module):
    """One teacher: its own logits, and probabilities by its own calibration."""

    def __init__(self, teacher: nn.Module, *, calibration: Calibration) -> None:
        super().__init__()
        self.teacher = teacher
        self.scaled = _Scaled(calibration)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's logits, and probabilities."""
        logits = self.teacher(image)
        return logits, self.scaled(logits)


class CalibratedEnsemble(nn.Module):
    """All teachers in one: fused first, then scaled.

    The logits are the logarithm of the mixture. Of probabilities it is z = log sum_k w_k
    softmax(z_k), taken as a logsumexp so that no class underflows; of logits it is z = sum_k w_k
    log softmax(z_k), which lacks a constant that no softmax sees.
    """

    def __init__(self, teachers: Sequence[nn.Module], *, calibration: Calibration) -> None:
        super().__init__()
        # A teacher of weight 0 changes nothing, and log 0 would have no finite place in the graph.
        pairs = zip(teachers, calibration.weights, strict=True)
        used = [(teacher, weight) for teacher, weight in pairs if weight > 0]
        self.teachers = nn.ModuleList(teacher for teacher, _ in used)
        self.mixes_logits = calibration.space == "logits"
        self.scaled = _Scaled(calibration)
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor([weight for _, weight in used])[:, None])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The log of the mixture, and probabilities."""
        members = [torch.log_softmax(teacher(image), dim=1) for teacher in self.teachers]
        stacked = torch.stack(members, dim=1)
        if self.mixes_logits:
            logits = (stacked * self.weights).sum(dim=1)
        else:
            logits = torch.logsumexp(stacked + self.weights.log(), dim=1)
        return logits, self.scaled(logits)


class _Scaled(nn.Module):
    """softmax(logits / temperature + class_bias)."""

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.temperature = calibration.temperature
        self.class_bias: Tensor
        self.register_buffer("class_bias", torch.tensor(calibration.class_bias))

    def forward(self, logits: Tensor) -> Tensor:
        """Probabilities (N, 7)."""
        return torch.softmax(logits / self.temperature + self.class_bias, dim=1)
