"""A session -> its model and the training loop, with batches that fit model and GPU."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from stages.computing.team import Team
from stages.config import NUM_CLASSES, SamplerFill, TeacherParams
from stages.loading.loader import TrainLoader
from stages.modeling.arcface import margin_at
from stages.modeling.teacher import Teacher, build_teacher, load_state
from stages.runtime.errors import UserError
from stages.runtime.seed import derive_seed
from stages.runtime.signals import StopRequest
from stages.training.loop import CosineSchedule, Loop
from stages.training.losses import build_loss
from stages.training.progress import Scores
from stages.training.session import Session
from stages.training.step import TrainingPath, TrainingStep, build_optimizer, by_decay

logger = logging.getLogger(__name__)


def build_model(session: Session) -> Teacher:
    """Build the teacher with its initial weights; random numbers come from (seed, teacher)."""
    torch.manual_seed(derive_seed(session.seed, "weights", session.teacher))
    teacher_params, published = session.teacher_params, session.initial.published
    if published is not None:
        # Every weight comes from the published file: nothing to fetch or to read before it.
        teacher_params = teacher_params.model_copy(update={"pretrained": False, "weights": None})
    model = build_teacher(
        teacher_params,
        image_size=session.stage_params.image_size,
        scale=session.stage_params.arcface.scale,
        mirror_averaged=session.stage_params.mirror_averaged,
        key=f"teachers.{session.teacher}",
    )
    if published is not None:
        load_state(model, published)
    model.to(session.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def build_loop(
    session: Session,
    model: Teacher,
    batches: TrainLoader,
    *,
    evaluate: Callable[[nn.Module], Scores],
    folder: Path,
    stop: StopRequest,
) -> Loop:
    """Build the loop that trains a model.

    In a team, gradients become the sum over the processes. Batch norm sees whole batches on GPUs;
    on CPUs, where torch has none that does, each process normalises by its own share, and the first
    one's running averages are kept.
    """
    stage_params, teacher_params, team = session.stage_params, session.teacher_params, session.team
    scale, decay = teacher_params.learning_rate_scale, stage_params.ema_decay
    path = TrainingPath(model, embed=model.embed, head_logits=model.head.training_logits)
    shared: DistributedDataParallel | None = None
    # Before the optimizer is built: it may replace parameters.
    if team.size > 1:
        if session.device.type == "cuda":
            convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        elif team.leads and _has_batch_norm(model):
            logger.warning("each of %d processes on CPUs has batch norm of its own", team.size)
        shared = DistributedDataParallel(path)
    step = TrainingStep(
        path=path,
        shared=shared,
        # Rates follow the teacher's scale; weight decay a step stays what the stage says.
        optimizer=build_optimizer(
            parameter_groups(model, teacher_params, weight_decay=stage_params.weight_decay / scale),
            teacher_params.optimizer,
        ),
        scaler=torch.amp.GradScaler(session.device.type, enabled=session.dtype == torch.float16),
        loss=build_loss(
            stage_params.prior,
            counts=batches.shown_counts,
            label_smoothing=stage_params.label_smoothing,
            device=session.device,
        ),
        # Of weights and buffers; its decay warms up for short runs.
        average=None if decay is None else ModelEmaV3(model, decay=decay, use_warmup=True),
        max_grad_norm=stage_params.max_grad_norm,
        device=session.device,
        dtype=session.dtype,
        team=team,
    )
    # The batches that remain of an epoch make a step.
    steps_per_epoch = -(-len(batches.sizes) // stage_params.accumulate)
    return Loop(
        step,
        batches,
        evaluate,
        folder,
        stop,
        seed=session.seed,
        epochs=stage_params.epochs,
        accumulate=stage_params.accumulate,
        eval_every=stage_params.eval_every,
        select_by=stage_params.select_by,
        checkpoint_seconds=60 * session.machine.checkpoint_minutes,
        schedule=CosineSchedule(
            peak=stage_params.learning_rate * scale,
            floor=stage_params.min_lr * scale,
            warmup_steps=round(stage_params.warmup_epochs * steps_per_epoch),
            total_steps=stage_params.epochs * steps_per_epoch,
        ),
        margin_at=partial(margin_at, arcface=stage_params.arcface),
    )


def parameter_groups(
    model: Teacher, teacher_params: TeacherParams, *, weight_decay: float
) -> list[dict[str, Any]]:
    """Group a teacher's parameters for its optimizer.

    Embedding and head have a factor of the rate that keeps weight decay a step as it is. A layer of
    the backbone, as timm counts them, has `layer_decay` to the power of its distance from the end,
    and less weight decay a step, as in https://arxiv.org/abs/2106.08254.
    """
    new_scale, layer_decay = teacher_params.head_learning_rate_scale, teacher_params.layer_decay
    if new_scale == layer_decay == 1:
        # The groups in checkpoints of runs that know of no factor.
        return by_decay(model.parameters(), weight_decay=weight_decay)
    if layer_decay == 1:
        groups = by_decay(model.backbone.parameters(), weight_decay=weight_decay)
    else:
        groups = param_groups_layer_decay(model.backbone, weight_decay, layer_decay=layer_decay)
    new = [*model.embedding.parameters(), *model.head.parameters()]
    of_new = by_decay(new, weight_decay=weight_decay / new_scale)
    return [*groups, *({**group, "lr_scale": new_scale} for group in of_new)]


def require_images(session: Session, model: nn.Module, sizes: Sequence[int]) -> None:
    """Refuse batches that leave a process without an image, or with a single one for batch norm.

    `sizes` counts the images of each batch of an epoch, in all processes.
    """
    team, needed = session.team, _needed(model, session.team)
    if (least := min(sizes)) >= needed:
        return
    ways = f"use {2 * needed - 1} or more"
    if needed > team.size:
        ways += ", or a backbone without batch norm, which needs 2 images at once in each process"
    if team.size > 1:
        ways += f", or fewer than {team.size} machine.processes, which share each batch"
    raise UserError(
        f"params.yaml: {session.key('batch_size')}: {sum(sizes)} images in {len(sizes)} batches "
        f"leave some of {least}, expected at least {needed}; {ways}"
    )


@contextmanager
def fit_explained(session: Session, model: nn.Module) -> Iterator[None]:
    """Raise a UserError that says what to change if a GPU runs out of memory inside."""
    try:
        yield
        return
    except torch.cuda.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
    stage_params = session.stage_params
    batch_key, size_key = session.key("batch_size"), session.key("image_size")
    least, way = 2 * _needed(model, session.team) - 1, f"a smaller {size_key}"
    note = "batch norm then sees the smaller batches"
    if isinstance(stage_params.prior, SamplerFill):
        least = max(least, NUM_CLASSES * stage_params.prior.min_per_class)
        note += ", and each of them is filled up, so rare classes are repeated more often"
    if stage_params.batch_size > least:
        way = (
            f"a smaller batch_size, of {least} at least, with more {session.key('accumulate')} "
            f"takes steps of as many images ({note}); else {way}"
        )
    raise UserError(
        f"params.yaml: {batch_key}: {stage_params.batch_size} images of {size_key} "
        f"{stage_params.image_size} px do not fit the GPU: {reason}; {way}"
    )


def _needed(model: nn.Module, team: Team) -> int:
    """Return how many images a batch must have; batch norm has no variance of a single one.

    Sizes of batches differ by one at most: twice the number, less one, is a safe `batch_size`.
    """
    return (2 if _has_batch_norm(model) else 1) * team.size


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in model.modules())
