"""Sections of params.yaml -> what the engine is handed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from stages.computing.team import Team
from stages.config import Augmentation, Preprocess, SamplerFill, Stage
from stages.config import Teacher as Recipe
from stages.faces.store import FaceStore
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.dataset import FaceDataset
from stages.loading.loader import EvalLoader, TrainLoader
from stages.loading.sampler import EpochSampler
from stages.modeling.arcface import margin_at
from stages.modeling.predict import predict
from stages.modeling.teacher import Teacher
from stages.records.schema import targets_of
from stages.scoring.metrics import score, softmax
from stages.training.compilation import CompilableEmbed
from stages.training.engine import Plan
from stages.training.machinery import Machinery
from stages.training.optimization import build_average, build_optimizer
from stages.training.prior import build_loss
from stages.training.progress import Scores
from stages.training.schedule import CosineSchedule
from stages.training.sharing import shared_logits

VAL_METRICS: tuple[Literal["accuracy", "macro_f1", "nll"], ...] = ("accuracy", "macro_f1", "nll")
_ECE_BINS = 15


class Faces:
    """Rows of the manifest as batches, all at one size and for one device.

    `workers` may be changed; each loader that is made takes as many.
    """

    def __init__(
        self,
        standardized: Path,
        *,
        section: Stage,
        preprocess: Preprocess,
        seed: int,
        workers: int,
        device: torch.device,
        team: Team,
    ) -> None:
        self._store = FaceStore(standardized)
        self._section = section
        self._preprocess = preprocess
        self._seed = seed
        self.workers = workers
        self._device = device
        self._team = team

    def to_train_on(self, rows: pd.DataFrame) -> TrainLoader:
        """Shuffled, augmented batches, each class filled up where the section says so.

        Raises:
            UserError: if a batch is too small for the rule.
        """
        prior = self._section.prior
        sampler = EpochSampler(
            targets_of(rows),
            batch_size=self._section.batch_size,
            min_per_class=prior.min_per_class if isinstance(prior, SamplerFill) else 0,
            seed=self._seed,
        )
        dataset = self._dataset(rows, self._section.augmentation)
        return TrainLoader(
            dataset, sampler, workers=self.workers, device=self._device, team=self._team
        )

    def to_score(self, rows: pd.DataFrame) -> EvalLoader:
        """Every row once, in order, plain."""
        return EvalLoader(
            self._dataset(rows, NO_AUGMENTATION),
            batch_size=self._section.batch_size,
            workers=self.workers,
            device=self._device,
            team=self._team,
        )

    def _dataset(self, rows: pd.DataFrame, augmentation: Augmentation) -> FaceDataset:
        return FaceDataset(
            self._store,
            positions=self._store.locate(rows["id"].tolist()),
            targets=targets_of(rows),
            image_size=self._section.image_size,
            preprocess=self._preprocess,
            augmentation=augmentation,
            seed=self._seed,
        )


def build_machinery(
    model: Teacher,
    *,
    section: Stage,
    recipe: Recipe,
    counts: np.ndarray,
    device: torch.device,
    dtype: torch.dtype,
    team: Team,
) -> Machinery:
    """Give a model, on its device already, an optimizer, a loss and an average.

    Args:
        counts: (7,) how often an epoch shows each class.
    """
    decay, embed = section.ema_decay, CompilableEmbed(model.embed)
    # First: it may replace parameters, which the optimizer must know.
    training_logits = shared_logits(model, embed=embed, team=team, device=device)
    return Machinery(
        model=model,
        embed=embed,
        training_logits=training_logits,
        optimizer=build_optimizer(
            model,
            recipe.optimizer,
            learning_rate=section.learning_rate * recipe.learning_rate_scale,
            weight_decay=section.weight_decay / recipe.learning_rate_scale,
        ),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        loss=build_loss(
            section.prior, counts=counts, label_smoothing=section.label_smoothing, device=device
        ),
        average=None if decay is None else build_average(model, decay=decay),
        max_grad_norm=section.max_grad_norm,
        device=device,
        dtype=dtype,
        team=team,
    )


def build_plan(
    section: Stage, *, recipe: Recipe, seed: int, num_batches: int, checkpoint_minutes: float
) -> Plan:
    """The numbers of the run; the batches that remain of an epoch make a step of their own."""
    steps_per_epoch = -(-num_batches // section.accumulate)
    return Plan(
        seed=seed,
        epochs=section.epochs,
        accumulate=section.accumulate,
        eval_every=section.eval_every,
        select_by=section.select_by,
        checkpoint_seconds=60 * checkpoint_minutes,
        schedule=CosineSchedule(
            peak=section.learning_rate * recipe.learning_rate_scale,
            floor=section.min_lr * recipe.learning_rate_scale,
            warmup_steps=round(section.warmup_epochs * steps_per_epoch),
            total_steps=section.epochs * steps_per_epoch,
        ),
        margin_at=partial(margin_at, arcface=section.arcface),
    )


def build_evaluation(
    loader: EvalLoader,
    *,
    rows: pd.DataFrame,
    device: torch.device,
    dtype: torch.dtype,
    team: Team,
) -> Callable[[nn.Module], Scores]:
    """A function that scores a model on the loader's rows: n and `VAL_METRICS`."""
    wanted = targets_of(rows)

    def evaluate(model: nn.Module) -> Scores:
        logits = predict_together(model, loader, device=device, dtype=dtype, team=team)
        # By one process: what follows from the scores must be the same in all, to the last bit.
        scores = team.lead(lambda: score(softmax(logits), wanted, bins=_ECE_BINS))
        return {"n": len(wanted)} | {name: scores[name] for name in VAL_METRICS}

    return evaluate


def predict_together(
    model: nn.Module,
    loader: EvalLoader,
    *,
    device: torch.device,
    dtype: torch.dtype,
    team: Team,
) -> np.ndarray:
    """Logits (N, 7) of all rows of the loader, in order, in every process of the team.

    Each process predicts its batches with the leader's weights and buffers.
    """
    team.align(model)
    mine = predict(model, loader, finish=loader.finish, device=device, dtype=dtype)
    return loader.in_order(team.gather(mine))
