"""A run from its first or last state to the teacher that is published."""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from stages.config import Machine, Preprocess, Stage
from stages.config import Teacher as Recipe
from stages.evaluation.predict import predict
from stages.loading.loader import choose_workers
from stages.modeling.teacher import Teacher
from stages.modeling.weights import TeacherCard, load_state
from stages.runtime.device import choose_device, choose_dtype, describe_device
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, sha256_file, write_json
from stages.runtime.provenance import environment
from stages.runtime.signals import StopRequest
from stages.sources.labels import CLASSES
from stages.training.assembly import Faces, build_evaluation, build_machinery, build_plan
from stages.training.engine import Engine
from stages.training.progress import Progress
from stages.training.publish import logits_table, publish
from stages.training.run import RECIPE_VERSION, Run
from stages.training.selection import Rows, alignment_report
from stages.training.start import Start

ENVIRONMENT_FILE = "environment.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """One run on this machine: its rows, its recipe, and where its images lie."""

    run: Run
    rows: Rows
    section: Stage
    preprocess: Preprocess
    recipe: Recipe
    seed: int
    machine: Machine
    standardized: Path

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
    if not (session.run.folder / ENVIRONMENT_FILE).exists():
        # Of the process that begins the run: a later one may only publish what this one learnt.
        where = {"device": describe_device(device), "dtype": str(dtype)}
        write_json(session.run.folder / ENVIRONMENT_FILE, environment() | where)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    evaluate = build_evaluation(
        session.faces.to_score(rows.val), rows=rows.val, device=device, dtype=dtype
    )
    if section.epochs == 0:
        logger.info("epochs is 0: the weights of %s pass through unchanged", section.init_from)
        return Progress(best={"epoch": 0, "val": evaluate(model)})
    batches = session.faces.to_train_on(rows.train)
    plan = build_plan(
        section,
        recipe=session.recipe,
        seed=session.seed,
        num_batches=batches.num_batches,
        checkpoint_minutes=session.machine.checkpoint_minutes,
    )
    machinery = build_machinery(
        model,
        section=section,
        recipe=session.recipe,
        counts=batches.effective_counts,
        device=device,
        dtype=dtype,
    )
    progress = Engine(machinery, plan, batches, evaluate, session.run.folder, stop).fit()
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
