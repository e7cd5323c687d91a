"""One training run on this machine: opened, built from its params, trained and scored.

In: a stage's params, standardized/, manifests/ and models/. Out: the model with the weights of its
best epoch, its history and the logits of every row that counts.
"""

import logging
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from stages.computing.device import choose_dtype, describe_device
from stages.computing.team import Team
from stages.config import Machine, Preprocess, Stage
from stages.config import Teacher as TeacherParams
from stages.faces.store import FaceStore
from stages.loading.loader import (
    EvalLoader,
    TrainLoader,
    choose_workers,
    scoring_batches,
    training_batches,
)
from stages.modeling.predict import predict
from stages.modeling.teacher import Teacher
from stages.modeling.weights import load_state
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file
from stages.runtime.signals import StopRequest
from stages.scoring.metrics import Ints, score, softmax
from stages.training.assembly import (
    build_loop,
    fit_explained,
    least_batch_size,
    require_images,
)
from stages.training.inputs import (
    InitialWeights,
    RunRows,
    adopt_size_and_scale,
    build_model,
    choose_rows,
    find_initial_weights,
    shard_hashes,
)
from stages.training.loop import Loop
from stages.training.losses import NonFiniteError, explain_non_finite
from stages.training.preflight import preflight, settle_forecast
from stages.training.progress import Progress, Scores
from stages.training.run import Run, open_run, record_environment, training_version
from stages.training.tuning import count_workers

STANDARDIZED, MANIFESTS, MODELS = Path("standardized"), Path("manifests"), Path("models")
VAL_METRICS: tuple[Literal["accuracy", "macro_f1", "nll"], ...] = ("accuracy", "macro_f1", "nll")
_ECE_BINS = 15

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """One run on this machine: its inputs, its params, and the processes that train it."""

    run: Run
    initial: InitialWeights
    rows: RunRows
    stage_params: Stage
    teacher_params: TeacherParams
    preprocess: Preprocess
    seed: int
    machine: Machine
    device: torch.device
    team: Team

    @cached_property
    def dtype(self) -> torch.dtype:
        """Autocast dtype; float32 disables autocast."""
        return choose_dtype(self.machine.precision, self.device)

    @cached_property
    def store(self) -> FaceStore:
        """All faces."""
        return FaceStore(STANDARDIZED)

    def training_batches(self, *, workers: int) -> TrainLoader:
        """Load the train rows, shuffled and augmented as the stage says."""
        return training_batches(
            self.store,
            self.rows.train,
            stage_params=self.stage_params,
            preprocess=self.preprocess,
            seed=self.seed,
            workers=workers,
            device=self.device,
            team=self.team,
        )

    def scoring_batches(self, rows: pd.DataFrame, *, workers: int) -> EvalLoader:
        """Load every row once, in order, as the teacher wants it."""
        return scoring_batches(
            self.store,
            rows,
            image_size=self.stage_params.image_size,
            preprocess=self.preprocess,
            batch_size=self.stage_params.batch_size,
            workers=workers,
            device=self.device,
            team=self.team,
        )


def open_session(
    stage: str,
    teacher: str,
    *,
    stage_params: Stage,
    teacher_params: TeacherParams,
    preprocess: Preprocess,
    seed: int,
    machine: Machine,
    device: torch.device,
    team: Team,
) -> Session:
    """Choose the rows, find the initial weights, and so name the run; nothing is written.

    Raises:
        UserError: if rows, classes or weights are missing, or a team does not see the same ones.
    """
    initial = find_initial_weights(
        MODELS, stage_params=stage_params, teacher_params=teacher_params, teacher=teacher
    )
    stage_params = adopt_size_and_scale(stage_params, initial)
    rows = choose_rows(MANIFESTS, rows=stage_params.filter, key=f"{stage}.filter")
    data = {"manifest": rows.manifest_sha256, "rows": rows.sha256()} | shard_hashes(STANDARDIZED)
    # Exactly the params that dvc.yaml lists for the stage.
    tracked = {"seed": seed, "preprocess": preprocess}
    tracked |= {stage: stage_params, "teacher": teacher_params}
    run = open_run(
        stage,
        teacher=teacher,
        version=training_version(stage_params),
        params=tracked,
        data=data,
        init_sha256=initial.sha256(),
    )
    if len(set(team.gather(run.fingerprint))) > 1:
        raise UserError(
            "the processes of this run see different params, manifests or shards; the project must "
            "be one folder for all"
        )
    logger.info(
        "%s %s: run %s, %d train rows", stage, teacher, run.fingerprint[:16], len(rows.train)
    )
    return Session(
        run, initial, rows, stage_params, teacher_params, preprocess, seed, machine, device, team
    )


def train_teacher(session: Session, *, stop: StopRequest) -> tuple[Teacher, Progress, np.ndarray]:
    """Train the model, or pass its initial weights through if epochs is 0, and score it.

    Returns:
        The model with the weights of its best epoch, the progress with its history, and logits
        (N, 7) of the N rows that are scored.
    """
    run, rows, stage_params = session.run, session.rows, session.stage_params
    logger.info("%s, %s", describe_device(session.device), session.dtype)
    model = build_model(
        session.initial,
        stage_params=stage_params,
        teacher_params=session.teacher_params,
        teacher=run.teacher,
        seed=session.seed,
    )
    model.to(session.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    workers = _choose_workers(session, model)
    val = session.scoring_batches(rows.val, workers=workers)
    evaluate = partial(_evaluate, session=session, val=val, targets=targets_of(rows.val))
    start: float | None = None
    if stage_params.epochs == 0:
        _record_environment(session, step=0)
        logger.info("epochs is 0: the weights of %s pass through unchanged", stage_params.init_from)
        progress = Progress(best={"epoch": 0, "val": evaluate(model)})
    else:
        batches = session.training_batches(workers=workers)
        require_images(batches.sizes, model=model, key=run.stage, team=session.team)
        loop = build_loop(
            model,
            batches,
            stage_params=stage_params,
            teacher_params=session.teacher_params,
            seed=session.seed,
            evaluate=evaluate,
            checkpoint_minutes=session.machine.checkpoint_minutes,
            folder=run.folder,
            stop=stop,
            device=session.device,
            dtype=session.dtype,
            team=session.team,
        )
        progress = loop.resume()
        if progress.epoch < stage_params.epochs:
            _record_environment(session, step=progress.step)
            start = _fit(session, loop, progress, val=val)
        best = run.folder / progress.best["file"]
        if not best.is_file() or sha256_file(best) != progress.best["sha256"]:
            raise UserError(f"{best.name}: missing or changed since epoch {progress.best['epoch']}")
        load_state(model, best)
    scored = session.scoring_batches(rows.scored, workers=workers)
    logits = _predict_together(model, scored, session=session)
    if start is not None:
        settle_forecast(progress.history, took_s=time.monotonic() - start)
    return model, progress, logits


def _choose_workers(session: Session, model: Teacher) -> int:
    """Choose how many workers make batches: as params.yaml says, or by trying for `auto`."""
    wanted, device, team = session.machine.workers, session.device, session.team
    most = choose_workers(wanted, device=device, team=team)
    if wanted != "auto" or most < 2:
        return most
    least = least_batch_size(model, team=team)
    with fit_explained(session.stage_params, key=session.run.stage, least=least):
        trial = session.scoring_batches(session.rows.val, workers=0)
        return count_workers(trial, model, most=most, device=device, dtype=session.dtype)


def _evaluate(model: nn.Module, *, session: Session, val: EvalLoader, targets: Ints) -> Scores:
    """Score a model on the val rows: n and `VAL_METRICS`."""
    logits = _predict_together(model, val, session=session)
    # By one process: what follows from the scores must be the same in all, to the last bit.
    scores = session.team.lead(lambda: score(softmax(logits), targets, bins=_ECE_BINS))
    return {"n": len(targets)} | {name: scores[name] for name in VAL_METRICS}


def _predict_together(model: nn.Module, batches: EvalLoader, *, session: Session) -> np.ndarray:
    """Predict logits (N, 7) of all rows, in order, in every process of the team.

    Each process predicts its batches with the leader's weights and buffers.
    """
    session.team.align(model)
    device, dtype = session.device, session.dtype
    part = predict(model, batches, finish=batches.finish, device=device, dtype=dtype)
    return batches.in_order(session.team.gather(part))


def _fit(session: Session, loop: Loop, progress: Progress, *, val: EvalLoader) -> float:
    """Take the preflight, then train to the end; returns when training began, on the clock."""
    rows, machine = session.rows, session.machine
    try:
        progress.preflight = preflight(
            loop,
            progress,
            val=val,
            num_val=len(rows.val),
            num_scored=len(rows.scored),
            stage_params=session.stage_params,
            key=session.run.stage,
            models=MODELS,
            max_hours=machine.max_hours,
            compiling=machine.compile,
        )
        start = time.monotonic()
        loop.fit(progress)
    except NonFiniteError as error:
        ids = rows.train["id"].iloc[error.rows].tolist()
        session.team.lead(partial(explain_non_finite, error, run=session.run, ids=ids))
    return start


def _record_environment(session: Session, *, step: int) -> None:
    computing = {
        "device": describe_device(session.device),
        "dtype": str(session.dtype),
        "processes": session.team.size,
        "deterministic": session.machine.deterministic,
    }
    folder = session.run.folder
    session.team.lead(lambda: record_environment(folder, step=step, computing=computing))
