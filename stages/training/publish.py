"""The end of a run: models/<stage>/<teacher>/, written in one go."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.config import CLASSES
from stages.modeling.teacher import Teacher
from stages.modeling.weights import TeacherCard, save_teacher
from stages.runtime.files import published_folder, read_json, write_json, write_with
from stages.training.assembly import predict_together
from stages.training.preflight import settle
from stages.training.processes import ENVIRONMENT_FILE
from stages.training.progress import Progress
from stages.training.saving import saved
from stages.training.selection import alignment_report
from stages.training.session import Session

logger = logging.getLogger(__name__)


def publish_teacher(session: Session, model: Teacher, *, progress: Progress) -> None:
    """Score every row that counts with the final weights; publish all files of the teacher."""
    run, section, rows = session.run, session.section, session.rows
    loader = session.faces.to_score(rows.scored)
    logits = predict_together(
        model, loader, device=session.device, dtype=session.dtype, team=session.team
    )
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
        recipe_version=run.identity["recipe_version"],
        weights_sha256="",
    )
    documents = {
        "history.json": progress.history,
        "alignmentreport.json": alignment_report(rows, section=section.filter),
        ENVIRONMENT_FILE: read_json(run.folder / ENVIRONMENT_FILE),
    }
    seen = rows.seen() | session.start.seen(rows.scored["id"])
    table = _logits_table(rows.scored["id"], logits=logits, seen=seen)
    target = session.folders.models / run.stage / run.teacher
    publish = partial(_publish, target, model=model, card=card, logits=table, documents=documents)
    num_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
    kept = f"the run is done and kept in {run.folder.as_posix()}, from which it is published"
    session.team.lead(lambda: saved(publish, path=target, num_bytes=num_bytes, kept=lambda: kept))
    logger.info("published %s: epoch %d", target.as_posix(), progress.best["epoch"])


def _publish(
    target: Path,
    *,
    model: Teacher,
    card: TeacherCard,
    logits: pd.DataFrame,
    documents: Mapping[str, Any],
) -> None:
    """Replace `target` by the teacher, its logits and its JSON documents, named by file."""
    with published_folder(target) as folder:
        save_teacher(folder, model, card)
        write_with(
            folder / "logits.parquet",
            lambda temporary: logits.to_parquet(temporary, index=False),
        )
        for name, document in documents.items():
            write_json(folder / name, document)


def _logits_table(ids: pd.Series, *, logits: np.ndarray, seen: np.ndarray) -> pd.DataFrame:
    """Rows of logits.parquet: id, a float32 logit per class, and whether training saw its group."""
    columns = {f"logit_{name.lower()}": logits[:, k] for k, name in enumerate(CLASSES)}
    return pd.DataFrame({"id": ids.to_numpy(), **columns, "seen": seen})
