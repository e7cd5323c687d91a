"""The way to a model's training logits: compilable, and shared by several processes."""

import logging

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from stages.modeling.teacher import Teacher
from stages.runtime.team import Team
from stages.training.compilation import CompilableEmbed
from stages.training.machinery import TrainingLogits

logger = logging.getLogger(__name__)


def shared_logits(
    model: Teacher, *, embed: CompilableEmbed, team: Team, device: torch.device
) -> TrainingLogits:
    """The way to the model's training logits; in a team, gradients become the processes' mean.

    Batch norm sees whole batches on GPUs. On CPUs torch has none that does: there each process
    normalises by its own share, and the first one's running averages are kept.
    """
    path = _TrainingPath(model, embed)
    if team.size == 1:
        return path
    if device.type == "cuda":
        convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    elif team.leads and any(isinstance(module, _BatchNorm) for module in model.modules()):
        logger.warning("each of %d processes on CPUs has batch norm of its own", team.size)
    return DistributedDataParallel(path)


class _TrainingPath(nn.Module):
    """What DistributedDataParallel can wrap: a module whose forward is the training path."""

    def __init__(self, teacher: Teacher, embed: CompilableEmbed) -> None:
        super().__init__()
        self.teacher = teacher
        self.embed = embed

    def forward(self, images: Tensor, targets: Tensor, *, margin_rad: float) -> Tensor:
        embedding = self.embed(images)
        return self.teacher.head.training_logits(embedding, targets, margin_rad=margin_rad)
