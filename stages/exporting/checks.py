"""ONNX files and a torch module -> do they agree, what do smaller files lose, how fast are they."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from timeit import timeit

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stages.exporting.export_files import BATCHES, ModelLatency, Parity, VariantLoss
from stages.exporting.onnx_file import Answers, open_session, run_session
from stages.exporting.reference import Expressions
from stages.faces.decode import Image
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.runtime.machine import num_threads
from stages.runtime.seed import generator
from stages.runtime.workers import with_progress
from stages.scoring.bootstrap import mean_interval, resample
from stages.scoring.metrics import Floats, row_nll

# For the reference script: its steps before the model are its own, not only its runtime.
REFERENCE_TOLERANCE = 1e-3
# Two cores are what a small machine has; a pool on fewer cores than it has threads would stall.
THREADS = min(2, num_threads("auto"))

# The first batches are uneven so that a batch size that was frozen into the graph shows.
_FIRST_BATCHES = (1, 5)
_BATCH = 32
_BOOTSTRAP_SAMPLES = 1000
_BUDGET_S = 1.5
_MIN_REPEATS, _MAX_REPEATS = 5, 25


class ParityError(UserError):
    """The ONNX file and the torch model disagree: the export is no result."""


class LossError(UserError):
    """A smaller model loses more than the recipe allows."""


def check_parity(
    path: Path, model: nn.Module, images: Tensor, *, faces: Sequence[Image], tolerance: float
) -> Parity:
    """Compare what onnxruntime and the reference script say with what torch says.

    Torch and onnxruntime get `images` (N, 3, S, S), as in training; the script gets `faces` (RGB).

    Raises:
        ParityError: if a probability differs by more than its tolerance, or is not a number.
    """
    expected, threads = torch_answers(model, images), torch.get_num_threads()
    session = open_session(path, threads=threads)
    actual = _joined(run_session(session, batch.numpy()) for batch in _batches(images))
    _, scripted = Expressions(path, threads=threads).predict(faces)
    max_abs_diff, reference_diff = (
        float(np.abs(expected.probabilities - p).max()) for p in (actual.probabilities, scripted)
    )
    # Not `>`: a NaN on either side must fail as well.
    if not max_abs_diff <= tolerance:
        raise ParityError(
            f"{path.name}: probabilities of onnxruntime and torch differ by {max_abs_diff:.3g} on "
            f"{len(images)} rows; expected at most export.parity_tolerance = {tolerance:g}"
        )
    if not reference_diff <= REFERENCE_TOLERANCE:
        raise ParityError(
            f"{path.name}: probabilities of reference.py, by the file's metadata, and of torch "
            f"differ by {reference_diff:.3g} on {len(faces)} faces; expected at most "
            f"{REFERENCE_TOLERANCE:g}"
        )
    return Parity(
        rows=len(images),
        label_changes=int((expected.labels != actual.labels).sum()),
        max_abs_diff=max_abs_diff,
        reference_max_abs_diff=reference_diff,
    )


def torch_answers(model: nn.Module, images: Tensor) -> Answers:
    """Ask a module batch by batch."""
    with torch.inference_mode():
        parts = [model(batch) for batch in _batches(images)]
    return _joined(Answers(p.double().numpy(), labels.numpy()) for _, p, labels in parts)


def file_answers(path: Path, batches: Iterable[Tensor]) -> Answers:
    """Ask an ONNX file about the rows held out.

    Raises:
        LossError: if some probabilities are not finite.
    """
    session = open_session(path, threads=torch.get_num_threads())
    answers = _joined(run_session(session, images.numpy()) for images in batches)
    if not np.isfinite(answers.probabilities).all():
        raise LossError(f"{path.name}: some probabilities are not finite; drop the variant")
    return answers


def mean_with_interval(values: Floats, rows: pd.DataFrame) -> tuple[float, tuple[float, float]]:
    """Average values (N,) of rows, with a 95 % interval by a bootstrap of their groups."""
    random = generator(0, "export", "accuracy loss")
    draws = resample(rows["group"].tolist(), samples=_BOOTSTRAP_SAMPLES, random=random)
    return float(values.mean()), mean_interval(values, resamples=draws)


def measure_loss(
    name: str,
    smaller: Answers,
    *,
    full: Answers,
    rows: pd.DataFrame,
    allowed: float,
    remedy: str = "take the variant out of export.variants",
) -> VariantLoss:
    """Measure what a smaller file loses: answers of both on the same rows, in pairs.

    Raises:
        LossError: if it loses more accuracy than `allowed`, naming the keys that mend it.
    """
    targets = targets_of(rows)
    losses = (full.labels == targets).astype(np.float64) - (smaller.labels == targets)
    nll, smaller_nll = (row_nll(each.probabilities, targets) for each in (full, smaller))
    loss, (low, high) = mean_with_interval(losses, rows)
    if loss > allowed:
        raise LossError(
            f"{name}: loses {loss:.4f} [{low:.4f}, {high:.4f}] of the accuracy "
            f"on {len(rows)} rows; expected at most export.max_accuracy_loss = {allowed:g}; "
            f"raise it or {remedy}"
        )
    return VariantLoss(
        n=len(targets),
        accuracy_loss=loss,
        accuracy_loss_95=(low, high),
        nll_increase=float((smaller_nll - nll).mean()),
        max_abs_diff=float(np.abs(full.probabilities - smaller.probabilities).max()),
        label_changes=int((full.labels != smaller.labels).sum()),
    )


def measure_latency(files: Mapping[str, Path], model: nn.Module, images: Tensor) -> ModelLatency:
    """Measure the median time of a batch, for each file and for `torch`, on the CPU.

    All are called in turns, so that other work of the machine slows them alike.
    """
    sessions = {name: open_session(path, threads=THREADS) for name, path in files.items()}
    milliseconds, images_per_s, repeats = {}, {}, {}
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        for size in BATCHES:
            batch = images[torch.arange(size) % len(images)]
            calls: dict[str, Callable[[], object]] = {
                name: partial(run_session, session, batch.numpy())
                for name, session in sessions.items()
            }
            calls["torch"] = partial(torch_answers, model, batch)
            # Most of a first call is preparation: the second tells how many fit into the budget.
            _, warm_up = (sum(timeit(call, number=1) for call in calls.values()) for _ in range(2))
            repeats[size] = int(np.clip(_BUDGET_S / warm_up, _MIN_REPEATS, _MAX_REPEATS))
            turns = with_progress(
                range(repeats[size]), name="timing", unit="turns", total=repeats[size]
            )
            seconds = [[timeit(call, number=1) for call in calls.values()] for _ in turns]
            for name, median in zip(calls, np.median(seconds, axis=0).tolist(), strict=True):
                milliseconds[f"{name}_batch_{size}"] = round(1000 * median, 3)
                images_per_s[f"{name}_batch_{size}"] = round(size / median, 1)
    finally:
        torch.set_num_threads(torch_threads)
    return ModelLatency(
        threads=THREADS, repeats=repeats, milliseconds=milliseconds, images_per_s=images_per_s
    )


def _batches(images: Tensor) -> Iterator[Tensor]:
    sizes = chain(_FIRST_BATCHES, repeat(_BATCH))
    start = 0
    while start < len(images):
        size = next(sizes)
        yield images[start : start + size]
        start += size


def _joined(parts: Iterable[Answers]) -> Answers:
    return Answers(*map(np.concatenate, zip(*parts, strict=True)))
