"""Teachers and rows of a view -> the files a distillation student reads.

`softlabels.npz` (`logits` (N, 7), `y` (N,) int64), `softlabels_index.jsonl` (i, id, source, y,
split, seen, temperature: one line per row i of the arrays) and `classorder.json`. softmax(logits)
is the mean of calibrated probabilities over views of the face: no temperature is left to apply.
"""

import json
import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.config import CLASSES, Export
from stages.exporting.bundle import ExportedModel
from stages.exporting.export_files import HeldOutAccuracy, SoftLabels, TopProbability
from stages.exporting.face_views import choose_face_views
from stages.exporting.rows import ExportRows
from stages.records.schema import shares_of, targets_of
from stages.runtime.files import write_bytes, write_json, write_text
from stages.scoring.metrics import Floats, log_probabilities
from stages.scoring.temperature import scale

# Above this the labels hardly differ from one-hot: distillation with .983 was worse than none.
NEARLY_ONE_HOT = 0.95

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowLabels:
    """Soft labels (N, 7): the mean of calibrated probabilities over views of each face.

    `is_crowds` (N,) marks rows at the crowd's temperature; `crowd_lacks` says why rows with votes
    are not. `top` (N,) are the largest probabilities of the faces as they are, at the majority's.
    """

    probabilities: Floats
    is_crowds: NDArray[np.bool_]
    crowd_lacks: str | None
    top: Floats
    face_views: tuple[str, ...]


def label_rows(model: ExportedModel, rows: ExportRows, *, settings: Export) -> RowLabels:
    """Label rows, those with votes at the crowd's temperature if it is a fit.

    Each teacher sees its own input, as in the val logits that the temperatures were fitted to.
    """
    calibration, views = model.calibration, choose_face_views(settings.soft_label_augmentations)
    labelled, ways = rows.labelled, list(views.values())
    logits = rows.reader.logits(labelled, model.teachers, inputs=model.inputs, views=ways)
    is_crowds, lacks = ~np.isnan(shares_of(labelled)[:, 0]), None
    if is_crowds.any() and calibration.crowd_temperature is None:
        lacks = "too few val rows have votes to fit the crowd's"
    elif is_crowds.any() and calibration.crowd_temperature_no_fit:
        lacks = f"the crowd's is no fit: {calibration.crowd_temperature_no_fit}"
    if lacks:
        message = "soft labels of %d rows with votes have the majority's temperature: %s"
        logger.warning(message, is_crowds.sum(), lacks)
        is_crowds = np.zeros_like(is_crowds)
    as_they_are = calibration.apply(logits[0]).calibrated
    labels = np.zeros_like(as_they_are)
    for each in logits:
        outputs = calibration.apply(each)
        labels += np.where(is_crowds[:, None], outputs.crowd, outputs.calibrated) / len(views)
    return RowLabels(labels, is_crowds, lacks, as_they_are.max(axis=1), tuple(views))


def write_soft_labels(
    folder: Path,
    rows: pd.DataFrame,
    labels: RowLabels,
    *,
    seen: AbstractSet[str],
    held_out: HeldOutAccuracy,
    settings: Export,
) -> SoftLabels:
    """Write the three files for the rows of a view, and describe them.

    `seen` holds the ids of rows that a teacher has learnt: their labels are over-confident.
    """
    probabilities, targets = labels.probabilities, targets_of(rows)
    # Logarithms are precise where it matters: the nearer a probability is to 1, the nearer they
    # are to 0, where half floats are dense.
    logits = log_probabilities(probabilities).astype(
        np.float32 if settings.float32_logits else np.float16
    )
    # numpy stamps the members of an npz with 1980, so equal labels are equal bytes.
    arrays = BytesIO()
    np.savez(arrays, allow_pickle=False, logits=logits, y=targets)
    write_bytes(folder / "softlabels.npz", arrays.getvalue())
    is_seen = rows["id"].isin(seen).to_numpy()
    used = np.where(labels.is_crowds, "crowd", "majority")
    index = rows[["id", "source"]].assign(
        y=targets, split=rows["split"], seen=is_seen, temperature=used
    )
    entries = enumerate(index.to_dict("records"))
    lines = [json.dumps({"i": i} | entry, ensure_ascii=False) + "\n" for i, entry in entries]
    write_text(folder / "softlabels_index.jsonl", "".join(lines))
    write_json(folder / "classorder.json", list(CLASSES))

    temperature, top = settings.distillation_temperature, probabilities.max(axis=1)
    if nearly_one_hot := bool(top.mean() > NEARLY_ONE_HOT):
        logger.warning(
            "soft labels are nearly one-hot: mean top probability %.3f > %.2f; a student learns "
            "little more from them than from the labels",
            *(top.mean(), NEARLY_ONE_HOT),
        )
    sharpness: dict[str, TopProbability] = {"held_out": held_out}
    for name, part in (("learnt", is_seen), ("not_learnt", ~is_seen)):
        if part.any():
            mean = float(labels.top[part].mean())
            sharpness[name] = TopProbability(n=int(part.sum()), mean_top_probability=mean)
    means = _sharpness_in_words(sharpness, split=held_out.split)
    logger.info("soft labels: %s", means)
    return SoftLabels(
        n=len(targets),
        face_views=labels.face_views,
        rows_by_temperature={name: int((used == name).sum()) for name in ("majority", "crowd")},
        crowd_lacks=labels.crowd_lacks,
        label_agreement=float((probabilities.argmax(axis=1) == targets).mean()),
        mean_top_probability=float(top.mean()),
        nearly_one_hot=nearly_one_hot,
        distillation_temperature=temperature,
        mean_top_probability_distilled=float(scale(probabilities, temperature).max(axis=1).mean()),
        sharpness=sharpness,
        sharpness_means=means,
    )


def _sharpness_in_words(sharpness: Mapping[str, TopProbability], *, split: str) -> str:
    if "learnt" not in sharpness:
        return "no labelled row was learnt by a teacher"
    learnt, held_out = sharpness["learnt"], sharpness["held_out"]
    gap = learnt.mean_top_probability - held_out.mean_top_probability
    meaning = "labels of learnt rows are not sharper"
    if gap >= 0.005:
        meaning = (
            f"labels of learnt rows are sharper by {gap:.2f}: the teachers remember these rows, "
            "and would be less sure of new ones"
        )
    return (
        f"mean top probability at the majority's temperature: {learnt.mean_top_probability:.3f} on "
        f"{learnt.n:,} labelled rows that a teacher has learnt, "
        f"{held_out.mean_top_probability:.3f} on {held_out.n:,} {split} rows that none has; "
        f"{meaning}"
    )
