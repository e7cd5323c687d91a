"""What a smaller model loses: its probabilities beside the full one's on rows held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stages.calibrating.blocks import MAJORITY
from stages.exporting.session import open_session, run_session
from stages.exporting.view import Faces
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.runtime.seed import generator
from stages.scoring.bootstrap import Resamples, mean_interval, resample
from stages.scoring.metrics import Floats, row_nll

_BOOTSTRAP_SAMPLES = 1000


class LossError(UserError):
    """A smaller model loses more than the recipe allows."""


@dataclass(frozen=True)
class HeldOut:
    """Rows that no teacher was trained on, with their faces; `split` says of which kind."""

    split: str
    rows: pd.DataFrame
    faces: Faces

    def probabilities(self, path: Path) -> Floats:
        """What an ONNX file says of the rows, (N, 7).

        Raises:
            LossError: if that is not finite.
        """
        session = open_session(path, threads=torch.get_num_threads())
        found = np.concatenate(
            [run_session(session, images.numpy()) for images in self.faces.batches()]
        ).astype(np.float64)
        if not np.isfinite(found).all():
            raise LossError(f"{path.name}: some probabilities are not finite; drop the variant")
        return found


def accuracy_of(
    probabilities: Floats, held: HeldOut, *, weights_sha256: Sequence[str], fitted_on: str
) -> dict[str, Any]:
    """Accuracy and mean top probability on the rows held out, and of which weights."""
    targets = targets_of(held.rows)
    hits = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    return {
        "split": held.split,
        "n": len(targets),
        "accuracy": float(hits.mean()),
        "accuracy_95": list(mean_interval(hits, resamples=_draws(held))),
        "mean_top_probability": float(probabilities.max(axis=1).mean()),
        "about": [
            {
                "weights_sha256": list(weights_sha256),
                "label_rule": MAJORITY,
                "fitted_on": fitted_on,
                "reported_on": held.split,
                "n": len(targets),
            }
        ],
    }


def measure_loss(full: Floats, smaller: Floats, held: HeldOut) -> dict[str, Any]:
    """What the smaller model loses on the same rows, each (N, 7); a loss below 0 is a gain.

    The interval is a paired bootstrap by group.
    """
    targets = targets_of(held.rows)
    hits = [(found.argmax(axis=1) == targets).astype(np.float64) for found in (full, smaller)]
    low, high = mean_interval(hits[0] - hits[1], resamples=_draws(held))
    return {
        "n": len(targets),
        "accuracy_loss": float((hits[0] - hits[1]).mean()),
        "accuracy_loss_95": [low, high],
        "nll_increase": float((row_nll(smaller, targets) - row_nll(full, targets)).mean()),
        "max_abs_diff": float(np.abs(full - smaller).max()),
        "top_class_changes": int((full.argmax(axis=1) != smaller.argmax(axis=1)).sum()),
    }


def require_small_loss(name: str, found: dict[str, Any], *, allowed: float) -> None:
    """Refuse a smaller model that loses more accuracy than `allowed`.

    Raises:
        LossError: naming the keys that mend it.
    """
    if found["accuracy_loss"] > allowed:
        low, high = found["accuracy_loss_95"]
        raise LossError(
            f"{name}: loses {found['accuracy_loss']:.4f} [{low:.4f}, {high:.4f}] of the accuracy "
            f"on {found['n']} rows; expected at most export.max_accuracy_loss = {allowed:g}; "
            "raise it or take the variant out of export.variants"
        )


def _draws(held: HeldOut) -> Resamples:
    random = generator(0, "export", "accuracy loss")
    return resample(held.rows["group"].tolist(), samples=_BOOTSTRAP_SAMPLES, random=random)
