"""How fast ONNX files are beside torch eager, on the CPU, in one run."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.exporting.parity import torch_probabilities
from stages.exporting.session import open_session, run_session
from stages.runtime.cores import num_threads

BATCHES = (1, 32)
# Two cores are what a small machine has; a pool on fewer cores than it has threads would stall.
THREADS = min(2, num_threads("auto"))

_BUDGET_S = 1.5
_MIN_REPEATS, _MAX_REPEATS = 5, 25


def measure_latency(files: Mapping[str, Path], model: nn.Module, images: Tensor) -> dict[str, Any]:
    """Median milliseconds of a batch and images a second, of each file and of `torch`.

    All are taken in turns, so that whatever else the machine does befalls them alike.
    """
    sessions = {name: open_session(path, threads=THREADS) for name, path in files.items()}
    milliseconds: dict[str, float] = {}
    per_second: dict[str, float] = {}
    setting: dict[str, int] = {"threads": THREADS}
    for size in BATCHES:
        batch = images[torch.arange(size) % len(images)]
        calls: dict[str, Callable[[], object]] = {
            name: partial(run_session, session, batch.numpy()) for name, session in sessions.items()
        }
        calls["torch"] = partial(torch_probabilities, model, batch)
        with _torch_threads(THREADS):
            seconds = _in_turns(calls)
        for name, found in seconds.items():
            milliseconds[f"{name}_batch_{size}"] = round(1000 * median(found), 3)
            per_second[f"{name}_batch_{size}"] = round(size / median(found), 1)
        setting[f"repeats_batch_{size}"] = len(seconds["torch"])
    # DVC shows plain numbers as columns and passes over lists: the setting is for readers.
    return {"latency_ms": milliseconds, "images_per_s": per_second, "latency_setting": [setting]}


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_turns(calls: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each call of some functions, called alternately after two calls to warm up."""
    # Of a first call most is preparation: it says nothing of how many fit into the budget.
    _, warm_up = (sum(_seconds(call) for call in calls.values()) for _ in range(2))
    repeats = int(np.clip(_BUDGET_S / warm_up, _MIN_REPEATS, _MAX_REPEATS))
    rounds = [{name: _seconds(call) for name, call in calls.items()} for _ in range(repeats)]
    return {name: [one[name] for one in rounds] for name in calls}


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
