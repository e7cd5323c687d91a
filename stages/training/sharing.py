"""The way to a model's training logits: compilable, and shared by several processes."""

import logging
from collections.abc import Sequence

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from stages.computing.team import Team
from stages.modeling.teacher import Teacher
from stages.runtime.errors import UserError
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
    elif team.leads and _has_batch_norm(model):
        logger.warning("each of %d processes on CPUs has batch norm of its own", team.size)
    return DistributedDataParallel(path)


def require_images(sizes: Sequence[int], *, model: nn.Module, key: str, team: Team) -> None:
    """Refuse batches of which some process would get too few images.

    Args:
        sizes: images of each batch of an epoch, in all processes.
        key: the section's name in params.yaml.

    Raises:
        UserError: if one leaves a process with none, or with a single one before batch norm, which
            has no variance then.
    """
    needed = _needed(model, team)
    if (least := min(sizes)) >= needed:
        return
    ways = f"use {least_batch_size(model, team=team)} or more"
    if needed > team.size:
        ways += ", or a backbone without batch norm, which needs 2 images at once in each process"
    if team.size > 1:
        ways += f", or fewer than {team.size} machine.processes, which share each batch"
    raise UserError(
        f"params.yaml: {key}.batch_size: {sum(sizes)} images in {len(sizes)} batches leave some of "
        f"{least}, expected at least {needed}; {ways}"
    )


def least_batch_size(model: nn.Module, *, team: Team) -> int:
    """The smallest batch size that leaves every process enough images, whatever remains."""
    # Sizes differ by one at most: with twice the number, less one, the smallest is large enough.
    return 2 * _needed(model, team) - 1


def _needed(model: nn.Module, team: Team) -> int:
    """Images of a batch: batch norm has no variance of a single one."""
    return (2 if _has_batch_norm(model) else 1) * team.size


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in model.modules())


class _TrainingPath(nn.Module):
    """What DistributedDataParallel can wrap: a module whose forward is the training path."""

    def __init__(self, teacher: Teacher, embed: CompilableEmbed) -> None:
        super().__init__()
        self.teacher = teacher
        self.embed = embed

    def forward(self, images: Tensor, targets: Tensor, *, margin_rad: float) -> Tensor:
        embedding = self.embed(images)
        return self.teacher.head.training_logits(embedding, targets, margin_rad=margin_rad)
