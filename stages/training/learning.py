"""A session -> the model with the weights of its best epoch."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import NoReturn

import torch
from torch import nn

from stages.computing.device import describe_device
from stages.loading.loader import EvalLoader
from stages.modeling.teacher import Teacher
from stages.modeling.weights import load_state
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file, write_json
from stages.runtime.signals import StopRequest
from stages.training.assembly import build_evaluation, build_machinery, build_plan
from stages.training.checkpoint import describe_kept
from stages.training.engine import Engine
from stages.training.memory import fit_explained
from stages.training.outcomes import NonFiniteError
from stages.training.preflight import Scoring, preflight
from stages.training.processes import record_process
from stages.training.progress import Progress, Scores
from stages.training.session import Session
from stages.training.sharing import least_batch_size, require_images
from stages.training.staffing import staff
from stages.training.start import build_model

NONFINITE_FILE = "nonfinite.json"

logger = logging.getLogger(__name__)


def learn(session: Session, *, stop: StopRequest) -> tuple[Teacher, Progress]:
    """Build and train the model: it has its best epoch's weights, or its first if epochs is 0."""
    section, rows, device, dtype = session.section, session.rows, session.device, session.dtype
    team = session.team
    logger.info("%s, %s", describe_device(device), dtype)
    model = build_model(
        session.start,
        section=section,
        recipe=session.recipe,
        teacher=session.run.teacher,
        seed=session.seed,
    )
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if session.machine.workers == "auto":
        with fit_explained(
            section, key=session.run.stage, least=least_batch_size(model, team=team)
        ):
            staff(session.faces, rows.val, model=model, device=device, dtype=dtype)
    val = session.faces.to_score(rows.val)
    evaluate = build_evaluation(val, rows=rows.val, device=device, dtype=dtype, team=team)
    if section.epochs == 0:
        _record_process(session, step=0)
        logger.info("epochs is 0: the weights of %s pass through unchanged", section.init_from)
        return model, Progress(best={"epoch": 0, "val": evaluate(model)})
    engine = _build_engine(session, model, evaluate=evaluate, stop=stop)
    progress = engine.resume()
    if progress.epoch < section.epochs:
        _record_process(session, step=progress.step)
        try:
            _train(session, engine, progress, val=val)
        except NonFiniteError as error:
            team.lead(partial(_explain, session, error))
    best = session.run.folder / progress.best["file"]
    if not best.is_file() or sha256_file(best) != progress.best["sha256"]:
        raise UserError(f"{best.name}: missing or changed since epoch {progress.best['epoch']}")
    load_state(model, best)
    return model, progress


def _build_engine(
    session: Session,
    model: Teacher,
    *,
    evaluate: Callable[[nn.Module], Scores],
    stop: StopRequest,
) -> Engine:
    section, recipe = session.section, session.recipe
    batches = session.faces.to_train_on(session.rows.train)
    require_images(batches.sizes, model=model, key=session.run.stage, team=session.team)
    plan = build_plan(
        section,
        recipe=recipe,
        seed=session.seed,
        num_batches=len(batches.sizes),
        checkpoint_minutes=session.machine.checkpoint_minutes,
    )
    machinery = build_machinery(
        model,
        section=section,
        recipe=recipe,
        counts=batches.effective_counts,
        device=session.device,
        dtype=session.dtype,
        team=session.team,
    )
    return Engine(
        machinery,
        plan,
        batches,
        finish=batches.finish,
        evaluate=evaluate,
        folder=session.run.folder,
        stop=stop,
    )


def _record_process(session: Session, *, step: int) -> None:
    computing = {
        "device": describe_device(session.device),
        "dtype": str(session.dtype),
        "processes": session.team.size,
        "deterministic": session.machine.deterministic,
    }
    session.team.lead(lambda: record_process(session.run.folder, step=step, computing=computing))


def _train(session: Session, engine: Engine, progress: Progress, *, val: EvalLoader) -> None:
    rows = session.rows
    progress.preflight = preflight(
        engine,
        progress,
        scoring=Scoring(val, num_val=len(rows.val), num_scored=len(rows.scored)),
        models=session.folders.models,
        section=session.section,
        key=session.run.stage,
        max_hours=session.machine.max_hours,
        compiling=session.machine.compile,
    )
    session.stopwatch.start()
    engine.fit(progress)


def _explain(session: Session, error: NonFiniteError) -> NoReturn:
    """Say what to look at in the morning: in nonfinite.json, and in words with ways to go on."""
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
    raise UserError(
        f"{error.what}; nothing of it is kept: {describe_kept(run.folder)}, and `dvc repro "
        f"{run.stage}@{run.teacher}` goes on with the same faces. Should it come back: "
        f"machine.precision "
        f"fp32, a lower {run.stage}.learning_rate or max_grad_norm, or a look at these {len(ids)} "
        f"faces (also in .work/{run.stage}/{run.teacher}/{run.folder.name}/{NONFINITE_FILE}): "
        f"{', '.join(ids)}"
    ) from None
