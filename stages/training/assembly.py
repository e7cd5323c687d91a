"""Params of a stage -> the loop that trains by them, with a batch size that fits model and GPU."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from stages.computing.team import Team
from stages.config import NUM_CLASSES, SamplerFill, Stage
from stages.config import Teacher as TeacherParams
from stages.loading.loader import TrainLoader
from stages.modeling.arcface import margin_at
from stages.modeling.teacher import Teacher
from stages.runtime.errors import UserError
from stages.runtime.signals import StopRequest
from stages.training.loop import CosineSchedule, Loop, Plan
from stages.training.losses import build_loss
from stages.training.progress import Scores
from stages.training.step import CompilableEmbed, TrainingPath, TrainingStep, build_optimizer

logger = logging.getLogger(__name__)


def build_loop(
    model: Teacher,
    batches: TrainLoader,
    *,
    stage_params: Stage,
    teacher_params: TeacherParams,
    seed: int,
    evaluate: Callable[[nn.Module], Scores],
    checkpoint_minutes: float,
    folder: Path,
    stop: StopRequest,
    device: torch.device,
    dtype: torch.dtype,
    team: Team,
) -> Loop:
    """Build the loop that trains a model, which is on its device already.

    In a team, gradients become the sum over the processes. Batch norm sees whole batches on GPUs;
    on CPUs, where torch has none that does, each process normalises by its own share, and the first
    one's running averages are kept.
    """
    embed, scale = CompilableEmbed(model.embed), teacher_params.learning_rate_scale
    path: nn.Module = TrainingPath(model, embed=embed, head_logits=model.head.training_logits)
    # Before the optimizer is built: it may replace parameters.
    if team.size > 1:
        if device.type == "cuda":
            convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        elif team.leads and _has_batch_norm(model):
            logger.warning("each of %d processes on CPUs has batch norm of its own", team.size)
        path = DistributedDataParallel(path)
    # Rates follow the teacher's scale; weight decay a step stays what the stage says.
    decay = stage_params.weight_decay / scale
    step = TrainingStep(
        model=model,
        embed=embed,
        training_logits=path,
        optimizer=build_optimizer(model, teacher_params.optimizer, weight_decay=decay),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        loss=build_loss(
            stage_params.prior,
            counts=batches.effective_counts,
            label_smoothing=stage_params.label_smoothing,
            device=device,
        ),
        average=_build_average(model, decay=stage_params.ema_decay),
        max_grad_norm=stage_params.max_grad_norm,
        device=device,
        dtype=dtype,
        team=team,
    )
    # The batches that remain of an epoch make a step.
    steps_per_epoch = -(-len(batches.sizes) // stage_params.accumulate)
    plan = Plan(
        seed=seed,
        epochs=stage_params.epochs,
        accumulate=stage_params.accumulate,
        eval_every=stage_params.eval_every,
        select_by=stage_params.select_by,
        checkpoint_seconds=60 * checkpoint_minutes,
        schedule=CosineSchedule(
            peak=stage_params.learning_rate * scale,
            floor=stage_params.min_lr * scale,
            warmup_steps=round(stage_params.warmup_epochs * steps_per_epoch),
            total_steps=stage_params.epochs * steps_per_epoch,
        ),
        margin_at=partial(margin_at, arcface=stage_params.arcface),
    )
    return Loop(step, plan, batches, evaluate=evaluate, folder=folder, stop=stop)


def _build_average(model: nn.Module, *, decay: float | None) -> ModelEmaV3 | None:
    """Average weights and buffers exponentially; the decay warms up for short runs."""
    return None if decay is None else ModelEmaV3(model, decay=decay, use_warmup=True)


def require_images(sizes: Sequence[int], *, model: nn.Module, key: str, team: Team) -> None:
    """Check that every process gets enough images of every batch.

    Args:
        sizes: images of each batch of an epoch, in all processes.
        key: the stage's section in params.yaml.

    Raises:
        UserError: if a batch leaves a process without an image, or with a single one before batch
            norm, which has no variance then.
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
    """Return the smallest batch size that leaves every process enough images in any epoch."""
    # Sizes differ by one at most: with twice the number, less one, the smallest is large enough.
    return 2 * _needed(model, team) - 1


@contextmanager
def fit_explained(stage_params: Stage, *, key: str, least: int) -> Iterator[None]:
    """Raise `too_large` if a GPU runs out of memory inside."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
        raise too_large(stage_params, key=key, least=least, reason=reason) from None


def too_large(stage_params: Stage, *, key: str, least: int, reason: str) -> UserError:
    """Make the error that names what to change in section `key` of params.yaml.

    Args:
        least: the smallest batch size that the model and the processes allow.
    """
    way = f"a smaller {key}.image_size"
    note = "batch norm then sees the smaller batches"
    if isinstance(stage_params.prior, SamplerFill):
        least = max(least, NUM_CLASSES * stage_params.prior.min_per_class)
        note += ", and each of them is filled up, so rare classes are repeated more often"
    if stage_params.batch_size > least:
        way = (
            f"a smaller batch_size, of {least} at least, with more {key}.accumulate takes steps of "
            f"as many images ({note}); else {way}"
        )
    return UserError(
        f"params.yaml: {key}.batch_size: {stage_params.batch_size} images of {key}.image_size "
        f"{stage_params.image_size} px do not fit the GPU: {reason}; {way}"
    )


def _needed(model: nn.Module, team: Team) -> int:
    """Images of a batch: batch norm has no variance of a single one."""
    return (2 if _has_batch_norm(model) else 1) * team.size


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in model.modules())
