"""A run from its first or last state to the teacher that is published."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from stages.config import Machine, Preprocess, Stage
from stages.config import Teacher as Recipe
from stages.evaluation.predict import predict
from stages.loading.loader import EvalLoader, choose_workers
from stages.modeling.teacher import Teacher
from stages.modeling.weights import TeacherCard, load_state
from stages.runtime.device import choose_device, choose_dtype, describe_device
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, sha256_file, write_json
from stages.runtime.signals import StopRequest
from stages.sources.labels import CLASSES
from stages.training.assembly import Faces, build_evaluation, build_machinery, build_plan
from stages.training.checkpoint import load_checkpoint
from stages.training.engine import Engine
from stages.training.machinery import NonFiniteError
from stages.training.pace import Stopwatch
from stages.training.preflight import Scoring, preflight, settle
from stages.training.processes import ENVIRONMENT_FILE, record_process
from stages.training.progress import Progress, Scores
from stages.training.publish import logits_table, publish
from stages.training.run import RECIPE_VERSION, Run
from stages.training.selection import Rows, alignment_report
from stages.training.start import Start

NONFINITE_FILE = "nonfinite.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """One run on this machine: its rows, its recipe, and where its images lie.

    `stopwatch` runs from the end of the preflight on.
    """

    run: Run
    rows: Rows
    section: Stage
    preprocess: Preprocess
    recipe: Recipe
    seed: int
    machine: Machine
    standardized: Path
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    @cached_property
    def device(self) -> torch.device:
        """Where the model lives."""
        return choose_device(self.machine.device)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Of autocast; float32 is none."""
        return choose_dtype(self.machine.precision, self.device)

    @cached_property
    def faces(self) -> Faces:
        """The way from rows to batches."""
        return Faces(
            self.standardized,
            section=self.section,
            preprocess=self.preprocess,
            seed=self.seed,
            workers=choose_workers(self.machine.workers, device=self.device),
            device=self.device,
        )


def learn(session: Session, model: Teacher, *, stop: StopRequest) -> Progress:
    """Train the model; it ends with the best epoch's weights, or as it came if epochs is 0."""
    section, rows, device, dtype = session.section, session.rows, session.device, session.dtype
    logger.info("%s, %s", describe_device(device), dtype)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    val = session.faces.to_score(rows.val)
    evaluate = build_evaluation(val, rows=rows.val, device=device, dtype=dtype)
    if section.epochs == 0:
        _record_process(session, step=0)
        logger.info("epochs is 0: the weights of %s pass through unchanged", section.init_from)
        return Progress(best={"epoch": 0, "val": evaluate(model)})
    engine = _build_engine(session, model, evaluate=evaluate, stop=stop)
    progress = engine.resume()
    if progress.epoch < section.epochs:
        _record_process(session, step=progress.step)
        try:
            _train(session, engine, progress, val=val)
        except NonFiniteError as error:
            raise _explained(session, error) from None
    best = session.run.folder / progress.best["file"]
    if not best.is_file() or sha256_file(best) != progress.best["sha256"]:
        raise UserError(f"{best.name}: missing or changed since epoch {progress.best['epoch']}")
    load_state(model, best)
    return progress


def publish_teacher(
    session: Session, model: Teacher, *, start: Start, progress: Progress, target: Path
) -> None:
    """Score every row that counts with the final weights; publish all files of the teacher."""
    run, section, rows = session.run, session.section, session.rows
    loader = session.faces.to_score(rows.scored)
    logits = predict(model, loader, device=session.device, dtype=session.dtype)
    if (took := session.stopwatch.seconds()) is not None:
        settle(progress.history, took_s=took)
    card = TeacherCard(
        teacher=run.teacher,
        stage=run.stage,
        backbone=session.recipe.backbone,
        embedding_size=session.recipe.embedding_size,
        dropout=session.recipe.dropout,
        scale=section.arcface.scale,
        classes=CLASSES,
        image_size=section.image_size,
        preprocess=session.preprocess.model_dump(mode="json"),
        epoch=progress.best["epoch"],
        metric={"split": "val", "selected_by": section.select_by, **progress.best["val"]},
        fingerprint=run.fingerprint,
        manifest_sha256=rows.manifest_sha256,
        recipe_version=RECIPE_VERSION,
        weights_sha256="",
    )
    documents = {
        "history.json": progress.history,
        "alignmentreport.json": alignment_report(rows, section=section.filter),
        ENVIRONMENT_FILE: read_json(run.folder / ENVIRONMENT_FILE),
    }
    seen = rows.seen() | start.seen(rows.scored["id"])
    table = logits_table(rows.scored["id"], logits=logits, seen=seen)
    publish(target, model=model, card=card, logits=table, documents=documents)


def _build_engine(
    session: Session,
    model: Teacher,
    *,
    evaluate: Callable[[nn.Module], Scores],
    stop: StopRequest,
) -> Engine:
    section, recipe = session.section, session.recipe
    batches = session.faces.to_train_on(session.rows.train)
    plan = build_plan(
        section,
        recipe=recipe,
        seed=session.seed,
        num_batches=batches.num_batches,
        checkpoint_minutes=session.machine.checkpoint_minutes,
    )
    machinery = build_machinery(
        model,
        section=section,
        recipe=recipe,
        counts=batches.effective_counts,
        device=session.device,
        dtype=session.dtype,
    )
    return Engine(machinery, plan, batches, evaluate, session.run.folder, stop)


def _record_process(session: Session, *, step: int) -> None:
    record_process(
        session.run.folder,
        step=step,
        device=describe_device(session.device),
        dtype=str(session.dtype),
    )


def _train(session: Session, engine: Engine, progress: Progress, *, val: EvalLoader) -> None:
    rows = session.rows
    progress.preflight = preflight(
        engine,
        progress,
        scoring=Scoring(val, num_val=len(rows.val), num_scored=len(rows.scored)),
        section=session.section,
        key=session.run.stage,
        max_hours=session.machine.max_hours,
    )
    session.stopwatch.start()
    engine.fit(progress)


def _explained(session: Session, error: NonFiniteError) -> UserError:
    """What to look at in the morning: in nonfinite.json, and in words with the ways to go on."""
    run = session.run
    ids = session.rows.train["id"].iloc[error.rows].tolist()
    write_json(
        run.folder / NONFINITE_FILE,
        {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "step": error.step,
            # As text: JSON has no number for them.
            "loss": str(error.loss),
            "gradient_norm": None if error.gradient_norm is None else str(error.gradient_norm),
            "learning_rate": error.learning_rate,
            "ids": ids,
        },
    )
    state = load_checkpoint(run.folder)
    kept = (
        "there is no checkpoint yet"
        if state is None
        else f"the checkpoint of step {state['progress']['step']} is kept, and `dvc repro "
        f"{run.stage}@{run.teacher}` goes on from it with the same faces"
    )
    return UserError(
        f"{error.what}; it was not taken: {kept}. Should it come back: machine.precision fp32, a "
        f"lower {run.stage}.learning_rate or max_grad_norm, or a look at these {len(ids)} faces "
        f"(also in .work/{run.stage}/{run.teacher}/{run.folder.name}/{NONFINITE_FILE}): "
        f"{', '.join(ids)}"
    )
