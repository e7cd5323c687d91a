"""models/<stage>/<teacher>/, written at the end of a run, in one go."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.modeling.teacher import Teacher
from stages.modeling.weights import TeacherCard, save_teacher
from stages.runtime.files import published_folder, write_json, write_with
from stages.sources.labels import CLASSES


def publish(
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


def logits_table(ids: pd.Series, *, logits: np.ndarray, seen: np.ndarray) -> pd.DataFrame:
    """Rows of logits.parquet: id, a float32 logit per class, and whether training saw its group."""
    columns = {f"logit_{name.lower()}": logits[:, k] for k, name in enumerate(CLASSES)}
    return pd.DataFrame({"id": ids.to_numpy(), **columns, "seen": seen})
