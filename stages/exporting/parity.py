"""Does an ONNX file say what torch says, and how fast: onnxruntime against torch on the CPU."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from stages.exporting.onnx_file import INPUT, OUTPUTS
from stages.runtime.errors import UserError

LATENCY_BATCHES = (1, 32)

# The first batches are uneven so that a batch size that was frozen into the graph shows.
_FIRST_BATCHES = (1, 5)
_BATCH = 32
_BUDGET_S = 1.5
_MIN_REPEATS, _MAX_REPEATS = 3, 25
# One core answers the same question on every machine. With more, a busy machine distorts even the
# ratio: torch waits at its barriers, onnxruntime's idle pool spins on the cores that torch needs.
_THREADS = 1

Array = np.ndarray[Any, np.dtype[np.float32]]


class ParityError(UserError):
    """The ONNX file and the torch model disagree: the export is no result."""


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """The file on onnxruntime's CPU provider, on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check_parity(
    path: Path, model: nn.Module, images: Tensor, *, tolerance: float
) -> dict[str, Any]:
    """Compare the probabilities of the file and of the module on `images` (N, 3, S, S).

    Raises:
        ParityError: if the largest absolute difference is above `tolerance`, or not a number.
    """
    session = open_session(path)
    batches = list(_batches(images))
    expected = np.concatenate([_torch_probabilities(model, batch) for batch in batches])
    found = np.concatenate([_onnx_probabilities(session, batch) for batch in batches])
    max_abs_diff = float(np.abs(expected - found).max())
    # Not `>`: a NaN on either side must fail as well.
    if not max_abs_diff <= tolerance:
        raise ParityError(
            f"{path.name}: probabilities of onnxruntime and torch differ by {max_abs_diff:.3g} on "
            f"{len(images)} rows; expected at most export.parity_tolerance = {tolerance:g}"
        )
    changes = int((expected.argmax(1) != found.argmax(1)).sum())
    return {"n": len(images), "max_abs_diff": max_abs_diff, "top_class_changes": changes}


def measure_latency(path: Path, model: nn.Module, images: Tensor) -> dict[str, Any]:
    """Median milliseconds of a batch on one core, onnxruntime and torch taken in turns."""
    session = open_session(path)
    milliseconds: dict[str, float] = {}
    setting: dict[str, int] = {"threads": _THREADS}
    for size in LATENCY_BATCHES:
        batch = images[torch.arange(size) % len(images)]
        with _torch_threads(_THREADS):
            onnx_s, torch_s = _in_turns(
                partial(_onnx_probabilities, session, batch),
                partial(_torch_probabilities, model, batch),
            )
        milliseconds[f"onnx_batch_{size}"] = round(1000 * median(onnx_s), 3)
        milliseconds[f"torch_batch_{size}"] = round(1000 * median(torch_s), 3)
        setting[f"repeats_batch_{size}"] = len(onnx_s)
    # DVC shows plain numbers as columns and passes over lists: the setting is for readers.
    return {"latency_ms": milliseconds, "latency_setting": [setting]}


def _batches(images: Tensor) -> Iterator[Tensor]:
    start = 0
    sizes = iter(_FIRST_BATCHES)
    while start < len(images):
        size = next(sizes, _BATCH)
        yield images[start : start + size]
        start += size


def _torch_probabilities(model: nn.Module, batch: Tensor) -> Array:
    with torch.inference_mode():
        probabilities: Array = model(batch)[OUTPUTS.index("probabilities")].numpy()
    return probabilities


def _onnx_probabilities(session: onnxruntime.InferenceSession, batch: Tensor) -> Array:
    probabilities: Array = session.run(["probabilities"], {INPUT: batch.numpy()})[0]
    return probabilities


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_turns(
    first: Callable[[], object], second: Callable[[], object]
) -> tuple[list[float], list[float]]:
    """Seconds of each call of two functions, called alternately after one call to warm up."""
    warm_up = _seconds(first) + _seconds(second)
    repeats = int(np.clip(_BUDGET_S / warm_up, _MIN_REPEATS, _MAX_REPEATS))
    pairs = [(_seconds(first), _seconds(second)) for _ in range(repeats)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
