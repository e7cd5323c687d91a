"""A session -> a teacher, trained or passed through, scored and published.

In: a session, whose run is held. Out: models/<stage>/<teacher>/, written in one go.
"""

import logging
import time
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from stages.computing.device import describe_device
from stages.config import CLASSES
from stages.loading.loader import EvalLoader, choose_workers, training_batches
from stages.modeling.card import StartedFrom, TeacherCard
from stages.modeling.predict import predict
from stages.modeling.teacher import Teacher, load_state, save_teacher
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.runtime.files import published_folder, read_json, sha256_file, write_json, write_with
from stages.runtime.signals import StopRequest
from stages.scoring.metrics import Floats, Ints, score, softmax
from stages.scoring.temperature import fit_temperature, one_hot
from stages.training.assembly import build_loop, build_model, fit_explained, require_images
from stages.training.checkpoint import describe_kept, save_with_retries
from stages.training.inputs import alignment_report
from stages.training.loop import Loop
from stages.training.losses import NonFiniteError, explain_non_finite, prior_correction
from stages.training.preflight import preflight, settle_forecast
from stages.training.progress import Progress, Scores
from stages.training.run import ENVIRONMENT_FILE, record_environment
from stages.training.session import MODELS, Session
from stages.training.tuning import count_workers

_ECE_BINS = 15

logger = logging.getLogger(__name__)


def train_teacher(session: Session, *, stop: StopRequest) -> None:
    """Train the model, or pass its initial weights through if epochs is 0; score and publish it."""
    rows, stage_params, folder = session.rows, session.stage_params, session.run.folder
    logger.info("%s, %s", describe_device(session.device), session.dtype)
    model = build_model(session)
    workers = _choose_workers(session, model)
    val = session.scoring_batches(rows.val, workers=workers)
    evaluate = partial(_evaluate, session=session, val=val, targets=targets_of(rows.val))
    start: float | None = None
    if stage_params.epochs == 0:
        _record_environment(session, step=0)
        text = "epochs is 0: the weights of %s pass through unchanged, for pictures of %d px"
        logger.info(text, stage_params.init_from, stage_params.image_size)
        progress = Progress(best={"epoch": 0, "val": evaluate(model)})
        before = session.initial.card()
        assert before is not None, "params with 0 epochs and no init_from are refused"
        learnt = (before.targets, before.prior_correction)
    else:
        batches = training_batches(
            session.store,
            rows.train,
            stage_params=stage_params,
            preprocess=session.preprocess,
            seed=session.seed,
            workers=workers,
            device=session.device,
            team=session.team,
        )
        correction = prior_correction(
            stage_params.prior, counts=batches.row_counts, shown_counts=batches.shown_counts
        )
        learnt = (stage_params.targets, correction)
        require_images(session, model, batches.sizes)
        loop = build_loop(session, model, batches, evaluate=evaluate, folder=folder, stop=stop)
        progress = loop.resume()
        if progress.epoch < stage_params.epochs:
            _record_environment(session, step=progress.step)
            start = _fit(session, loop, progress, val=val)
        best = folder / progress.best["file"]
        if not best.is_file() or sha256_file(best) != progress.best["sha256"]:
            raise UserError(f"{best.name}: missing or changed since epoch {progress.best['epoch']}")
        load_state(model, best)
    scored = session.scoring_batches(rows.scored, workers=workers)
    # In float32 whatever `machine.precision` says: they are the numbers of the exported file.
    logits = _predict_together(model, scored, session=session, dtype=torch.float32)
    if start is not None:
        settle_forecast(progress.history, took_s=time.monotonic() - start)
    _publish(session, model, progress=progress, logits=logits, learnt=learnt)


def _choose_workers(session: Session, model: Teacher) -> int:
    """Choose how many workers make batches: as params.yaml says, or by trying for `auto`."""
    wanted, device = session.machine.workers, session.device
    most = choose_workers(wanted, device=device, team=session.team)
    if wanted != "auto" or most < 2:
        return most
    with fit_explained(session, model):
        trial = session.scoring_batches(session.rows.val, workers=0)
        return count_workers(trial, model, most=most, device=device, dtype=session.dtype)


def _evaluate(model: nn.Module, *, session: Session, val: EvalLoader, targets: Ints) -> Scores:
    logits = _predict_together(model, val, session=session, dtype=session.dtype).astype(np.float64)
    if not np.isfinite(logits).all():
        raise UserError(
            f"{session.stage} {session.teacher}: some logits of val are not finite; "
            f"{describe_kept(session.run.folder)}; set machine.precision to fp32 or lower "
            f"{session.key('learning_rate')}"
        )
    # By one process: what follows from the scores must be the same in all, to the last bit.
    return session.team.lead(lambda: score_evaluation(logits, targets))


def score_evaluation(logits: Floats, targets: Ints) -> Scores:
    """Score the val rows' logits (N, 7), as they are and scaled by the temperature that fits them.

    The temperature is fitted on the rows that it is scored on: no other gives a lower `scaled_nll`.
    Where the rows fit none, `temperature` is None, and the scaled scores are the raw ones.
    """
    fitted = fit_temperature(logits, one_hot(targets))
    raw = score(softmax(logits), targets, bins=_ECE_BINS)
    scaled = score(softmax(logits / fitted.value), targets, bins=_ECE_BINS)
    return {
        "n": len(targets),
        "accuracy": raw["accuracy"],
        "macro_f1": raw["macro_f1"],
        "nll": raw["nll"],
        "ece": raw["ece"],
        "brier": raw["brier"],
        "temperature": None if fitted.no_fit else fitted.value,
        "scaled_nll": scaled["nll"],
        "scaled_ece": scaled["ece"],
    }


def _predict_together(
    model: nn.Module, batches: EvalLoader, *, session: Session, dtype: torch.dtype
) -> np.ndarray:
    """Predict logits (N, 7) of all rows, in order, by the leader's weights, in every process."""
    session.team.align(model)
    part = predict(model, batches, finish=batches.finish, device=session.device, dtype=dtype)
    return batches.in_order(session.team.gather(part))


def _fit(session: Session, loop: Loop, progress: Progress, *, val: EvalLoader) -> float:
    """Take the preflight, then train to the end; returns when training began, on the clock."""
    try:
        progress.preflight = preflight(session, loop, progress, val=val)
        start = time.monotonic()
        loop.fit(progress)
    except NonFiniteError as error:
        ids = session.rows.train["id"].iloc[error.rows].tolist()
        lower = [session.key(name) for name in ("learning_rate", "max_grad_norm")]
        session.team.lead(partial(explain_non_finite, error, run=session.run, ids=ids, lower=lower))
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


def _publish(
    session: Session,
    model: Teacher,
    *,
    progress: Progress,
    logits: np.ndarray,
    learnt: tuple[Literal["majority", "votes"], tuple[float, ...]],
) -> None:
    """Publish all files of the teacher, in place of those of the run before.

    `logits` (N, 7) are those of the session's scored rows; `learnt` are the targets that the
    weights learnt and their correction (7,) of the prior.
    """
    targets, correction = learnt
    run, stage_params, rows = session.run, session.stage_params, session.rows
    before, started_from = session.initial.card(), None
    if before is not None:
        started_from = StartedFrom(stage=before.stage, weights_sha256=session.initial.sha256())
    card = TeacherCard(
        teacher=session.teacher,
        stage=session.stage,
        backbone=session.teacher_params.backbone,
        backbone_options=session.teacher_params.backbone_options,
        embedding_size=session.teacher_params.embedding_size,
        dropout=session.teacher_params.dropout,
        scale=stage_params.arcface.scale,
        mirror_averaged=stage_params.mirror_averaged,
        classes=CLASSES,
        image_size=stage_params.image_size,
        preprocess=session.preprocess.model_dump(mode="json"),
        targets=targets,
        filter=stage_params.filter,
        started_from=started_from,
        prior_correction=correction,
        epoch=progress.best["epoch"],
        metric={"split": "val", "selected_by": stage_params.select_by, **progress.best["val"]},
        fingerprint=run.fingerprint,
        manifest_sha256=rows.manifest_sha256,
        training_version=run.identity["recipe_version"],
        weights_sha256="",
    )
    ids = rows.scored["id"]
    columns = {f"logit_{name.lower()}": logits[:, k] for k, name in enumerate(CLASSES)}
    # Whether training, of this run or of the one before, has seen the row or its group.
    seen = rows.seen() | session.initial.seen(ids)
    table = pd.DataFrame({"id": ids.to_numpy(), **columns, "seen": seen})
    documents = {
        "history.json": progress.history,
        "alignmentreport.json": alignment_report(rows, chosen_by=stage_params.filter)
        | {"prior_correction": dict(zip(CLASSES, correction, strict=True))},
        ENVIRONMENT_FILE: read_json(run.folder / ENVIRONMENT_FILE),
    }
    target = MODELS / session.stage / session.teacher
    num_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
    kept = f"the run is done and kept in {run.folder.as_posix()}, from which it is published"

    def write() -> None:
        with published_folder(target) as folder:
            save_teacher(folder, model, card)
            write_with(folder / "logits.parquet", lambda path: table.to_parquet(path, index=False))
            for name, document in documents.items():
                write_json(folder / name, document)

    session.team.lead(
        lambda: save_with_retries(write, path=target, num_bytes=num_bytes, kept=lambda: kept)
    )
    logger.info("published %s: epoch %d", target.as_posix(), progress.best["epoch"])
