"""A trained model, its history and logits -> models/<stage>/<teacher>/, written in one go."""

import logging

import numpy as np
import pandas as pd

from stages.config import CLASSES
from stages.modeling.card import TeacherCard
from stages.modeling.teacher import Teacher
from stages.modeling.weights import save_teacher
from stages.runtime.files import published_folder, read_json, write_json, write_with
from stages.training.checkpoint import save_with_retries
from stages.training.inputs import alignment_report
from stages.training.progress import Progress
from stages.training.run import ENVIRONMENT_FILE
from stages.training.session import MODELS, Session

logger = logging.getLogger(__name__)


def publish_teacher(
    session: Session, model: Teacher, *, progress: Progress, logits: np.ndarray
) -> None:
    """Publish all files of the teacher, in place of those of the run before.

    Args:
        logits: float32 (N, 7) of the session's scored rows.
    """
    run, stage_params, rows = session.run, session.stage_params, session.rows
    card = TeacherCard(
        teacher=run.teacher,
        stage=run.stage,
        backbone=session.teacher_params.backbone,
        embedding_size=session.teacher_params.embedding_size,
        dropout=session.teacher_params.dropout,
        scale=stage_params.arcface.scale,
        classes=CLASSES,
        image_size=stage_params.image_size,
        preprocess=session.preprocess.model_dump(mode="json"),
        filter=stage_params.filter,
        started_from=session.initial.started_from(),
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
        "alignmentreport.json": alignment_report(rows, chosen_by=stage_params.filter),
        ENVIRONMENT_FILE: read_json(run.folder / ENVIRONMENT_FILE),
    }
    target = MODELS / run.stage / run.teacher
    num_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
    kept = f"the run is done and kept in {run.folder.as_posix()}, from which it is published"

    def write() -> None:
        with published_folder(target) as folder:
            save_teacher(folder, model, card)
            write_with(
                folder / "logits.parquet",
                lambda temporary: table.to_parquet(temporary, index=False),
            )
            for name, document in documents.items():
                write_json(folder / name, document)

    session.team.lead(
        lambda: save_with_retries(write, path=target, num_bytes=num_bytes, kept=lambda: kept)
    )
    logger.info("published %s: epoch %d", target.as_posix(), progress.best["epoch"])
