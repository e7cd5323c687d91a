"""Calibrated probabilities of a view -> the files a distillation student reads.

`softlabels.npz` (`logits` (N, 7), `y` (N,) int64), `softlabels_index.jsonl` (i, id, source, y,
split, seen: one line per row i of the arrays) and `classorder.json`. softmax(logits) is the
calibrated probability: no temperature is left to apply.
"""

import json
import logging
from collections.abc import Set as AbstractSet
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from stages.config import CLASSES, Export
from stages.exporting.export_files import SeenLabels, SoftLabels
from stages.records.schema import targets_of
from stages.runtime.files import write_bytes, write_json, write_text
from stages.scoring.metrics import Floats, log_probabilities
from stages.scoring.temperature import scale

# Above this the labels hardly differ from one-hot: distillation with .983 was worse than none.
NEARLY_ONE_HOT = 0.95

logger = logging.getLogger(__name__)


def write_soft_labels(
    folder: Path,
    rows: pd.DataFrame,
    probabilities: Floats,
    *,
    seen: AbstractSet[str],
    settings: Export,
) -> SoftLabels:
    """Write the three files for the rows of a view, and describe them.

    `probabilities` (N, 7) are calibrated and in the order of `rows`. Their logarithms are precise
    where it matters: the nearer to 1 a probability, the nearer to 0, where half floats are dense.
    `seen` holds the ids of rows that a teacher has learnt: their labels are over-confident.
    """
    assert probabilities.shape == (len(rows), len(CLASSES))
    targets = targets_of(rows)
    logits = log_probabilities(probabilities).astype(
        np.float32 if settings.float32_logits else np.float16
    )

    # numpy stamps the members of an npz with 1980, so equal labels are equal bytes.
    arrays = BytesIO()
    np.savez(arrays, allow_pickle=False, logits=logits, y=targets)
    write_bytes(folder / "softlabels.npz", arrays.getvalue())
    is_seen = rows["id"].isin(seen).to_numpy()
    index = rows[["id", "source"]].assign(y=targets, split=rows["split"], seen=is_seen)
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
    return SoftLabels(
        n=len(targets),
        label_agreement=float((probabilities.argmax(axis=1) == targets).mean()),
        mean_top_probability=float(top.mean()),
        nearly_one_hot=nearly_one_hot,
        distillation_temperature=temperature,
        mean_top_probability_distilled=float(scale(probabilities, temperature).max(axis=1).mean()),
        by_seen={
            name: SeenLabels(n=int(part.sum()), mean_top_probability=float(top[part].mean()))
            for name, part in (("seen", is_seen), ("unseen", ~is_seen))
            if part.any()
        },
    )
