"""How many processes make batches: as many as the device keeps busy, found by trying."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable

import pandas as pd
import torch
from torch import nn

from stages.computing.transfer import Batch
from stages.loading.loader import EvalLoader
from stages.modeling.predict import predict
from stages.training.assembly import Faces
from stages.training.pace import for_a_while

# Beyond what the device takes: processes do not all run at the pace of the one that was tried.
_MARGIN = 1.25
_MAKING_SECONDS, _SCORING_SECONDS, _WARMUP_BATCHES = 0.5, 1.0, 3

logger = logging.getLogger(__name__)


def staff(
    faces: Faces,
    rows: pd.DataFrame,
    *,
    model: nn.Module,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Leave `faces` the workers that keep the device busy, of those that it has.

    They are counted by scoring, for which batches are due about three times as often as for
    training. A worker beyond need costs half a gigabyte, and seconds when it starts. Each process
    of a team counts for itself.
    """
    if faces.workers < 2:
        return
    most, faces.workers = faces.workers, 0
    loader = faces.to_score(rows)
    # With few rows some process of a team has no batch to try.
    found = _count(loader, model, most=most, device=device, dtype=dtype) if len(loader) else 1
    faces.workers = found


def needed(*, made_img_s: float, scored_img_s: float, most: int) -> int:
    """The fewest processes that make, with some to spare, what the device takes; at least one."""
    return max(1, min(most, math.ceil(_MARGIN * scored_img_s / made_img_s)))


def _count(
    loader: EvalLoader, model: nn.Module, *, most: int, device: torch.device, dtype: torch.dtype
) -> int:
    made, scored = _made_img_s(loader), _scored_img_s(loader, model, device=device, dtype=dtype)
    workers = needed(made_img_s=made, scored_img_s=scored, most=most)
    text = "machine.workers: auto: %d of %d: one makes %.0f img/s, the device scores %.0f"
    logger.info(text, workers, most, made, scored)
    return workers


def _made_img_s(loader: EvalLoader) -> float:
    """The pace of this process, which starts none for the loader."""

    def make(batches: Iterable[Batch]) -> int:
        return sum(len(batch["target"]) for batch in batches)

    return _img_s(make, for_a_while(loader, seconds=_MAKING_SECONDS))


def _scored_img_s(
    loader: EvalLoader, model: nn.Module, *, device: torch.device, dtype: torch.dtype
) -> float:
    """The pace of the device with a batch that is there."""

    def score(batches: Iterable[Batch]) -> int:
        return len(predict(model, batches, finish=loader.finish, device=device, dtype=dtype))

    batch = next(iter(loader))
    score(itertools.repeat(batch, _WARMUP_BATCHES))
    return _img_s(score, for_a_while(itertools.repeat(batch), seconds=_SCORING_SECONDS))


def _img_s(work: Callable[[Iterable[Batch]], int], batches: Iterable[Batch]) -> float:
    start = time.monotonic()
    return work(batches) / (time.monotonic() - start)
