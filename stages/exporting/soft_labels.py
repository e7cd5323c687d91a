"""Calibrated probabilities of a view -> the files a distillation student reads.

`softlabels.npz` (`logits` (N, 7), `y` (N,) int64), `softlabels_index.jsonl` (i, id, source, y,
split, seen: one line per row i of the arrays) and `classorder.json`. softmax(logits) is the
calibrated probability: no temperature is left to apply.
"""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.config import CLASSES, Export
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.runtime.files import write_json, write_text, write_with
from stages.scoring.metrics import Floats, Ints, log_probabilities
from stages.scoring.temperature import scale

# Above this the labels hardly differ from one-hot: distillation with .983 was worse than none.
NEARLY_ONE_HOT = 0.95

Array = np.ndarray[Any, np.dtype[Any]]

logger = logging.getLogger(__name__)


def join_by_id(predictions: Array, *, ids: Sequence[str], wanted: Sequence[str]) -> Array:
    """The rows of `predictions` (one per entry of `ids`) in the order of `wanted`.

    Raises:
        UserError: if an id occurs twice on either side, or on one side only.
    """
    for place, names in (("view", wanted), ("predictions", ids)):
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise UserError(f"soft labels: {_some(twice)} stand more than once in the {place}")
    if missing := sorted(set(wanted) - set(ids)):
        raise UserError(f"soft labels: {_some(missing)} of the view have no prediction")
    if strange := sorted(set(ids) - set(wanted)):
        raise UserError(f"soft labels: {_some(strange)} are predicted but not in the view")
    position = {name: row for row, name in enumerate(ids)}
    joined: Array = predictions[[position[name] for name in wanted]]
    return joined


def write_soft_labels(
    folder: Path,
    rows: pd.DataFrame,
    probabilities: Floats,
    *,
    seen: AbstractSet[str],
    settings: Export,
) -> dict[str, Any]:
    """Write the three files for the rows of a view, and describe them.

    `probabilities` (N, 7) are calibrated and in the order of `rows`. Their logarithms are precise
    where it matters: the nearer to 1 a probability, the nearer to 0, where half floats are dense.
    `seen` holds the ids that a teacher has learnt: of those it is surer than calibration knows.
    """
    assert probabilities.shape == (len(rows), len(CLASSES))
    targets = targets_of(rows)
    logits = log_probabilities(probabilities).astype(
        np.float32 if settings.float32_logits else np.float16
    )
    # numpy stamps the members of an npz with 1980, so equal labels are equal bytes.
    write_with(folder / "softlabels.npz", lambda path: _save(path, logits=logits, y=targets))
    is_seen = rows["id"].isin(seen).to_numpy()
    write_text(folder / "softlabels_index.jsonl", _index(rows, targets, is_seen))
    write_json(folder / "classorder.json", list(CLASSES))
    temperature = settings.distillation_temperature
    return _summary(probabilities, targets) | {
        "distillation_temperature": temperature,
        "mean_top_probability_distilled": _mean_top(scale(probabilities, temperature)),
        "by_seen": {
            name: {"n": int(part.sum()), "mean_top_probability": _mean_top(probabilities[part])}
            for name, part in (("seen", is_seen), ("unseen", ~is_seen))
            if part.any()
        },
    }


def _save(path: Path, **arrays: Array) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _index(rows: pd.DataFrame, targets: Ints, is_seen: Array) -> str:
    entries = rows[["id", "source"]].assign(y=targets, split=rows["split"], seen=is_seen)
    lines = [
        json.dumps({"i": i} | entry, ensure_ascii=False)
        for i, entry in enumerate(entries.to_dict("records"))
    ]
    return "".join(f"{line}\n" for line in lines)


def _mean_top(probabilities: Floats) -> float:
    return float(probabilities.max(axis=1).mean())


def _summary(probabilities: Floats, targets: Ints) -> dict[str, Any]:
    mean_top = _mean_top(probabilities)
    nearly_one_hot = mean_top > NEARLY_ONE_HOT
    if nearly_one_hot:
        logger.warning(
            "soft labels are nearly one-hot: mean top probability %.3f > %.2f; a student learns "
            "little more from them than from the labels", mean_top, NEARLY_ONE_HOT
        )  # fmt: skip
    return {
        "n": len(targets),
        "label_agreement": float((probabilities.argmax(axis=1) == targets).mean()),
        "mean_top_probability": mean_top,
        "nearly_one_hot": nearly_one_hot,
    }


def _some(names: Sequence[str], *, shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{len(names)} ids ({', '.join(names[:shown])}{more})"
