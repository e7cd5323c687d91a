"""What this machine is measured for before a run: how many workers, and compiled or eager steps."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import nn

from stages.computing.team import Team
from stages.loading.loader import EvalLoader
from stages.modeling.predict import predict
from stages.runtime.errors import InterruptedRunError, LostProcessError, UserError
from stages.training.losses import NonFiniteError
from stages.training.step import TrainingPath

# Compiling takes a minute or two: `auto` tries it where that is little beside what is left.
WORTH_TRYING_SECONDS = 1800.0
# Beyond what the device takes: workers do not all run at the rate of the one that was measured.
_MARGIN = 1.25
_MAKING_SECONDS, _SCORING_SECONDS, _WARMUP_BATCHES = 0.5, 1.0, 3

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Rates:
    """Rates that `steps` steps of a run showed."""

    steps: int
    step_seconds: float
    img_s: float
    data_wait_share: float
    scoring_img_s: float


def for_a_while(items: Iterable[T], *, seconds: float) -> Iterator[T]:
    """Yield items until they have taken so long; at least one, if there is one."""
    start = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - start >= seconds:
            return


def count_workers(
    batches: EvalLoader, model: nn.Module, *, most: int, device: torch.device, dtype: torch.dtype
) -> int:
    """Return how many workers keep the device busy, at most `most`; each process of a team counts.

    They are counted by scoring, for which batches are due about three times as often as for
    training. A worker beyond need costs half a gigabyte, and seconds when it starts. `batches` come
    from a loader without workers.
    """
    # With few rows some process of a team has no batch to try.
    if not len(batches):
        return 1
    start = time.monotonic()
    num_made = sum(len(b["target"]) for b in for_a_while(batches, seconds=_MAKING_SECONDS))
    made = num_made / (time.monotonic() - start)
    # The device's rate if a batch is always ready.
    batch = next(iter(batches))
    score = partial(predict, model, finish=batches.finish, device=device, dtype=dtype)
    score(itertools.repeat(batch, _WARMUP_BATCHES))
    start = time.monotonic()
    num_scored = len(score(for_a_while(itertools.repeat(batch), seconds=_SCORING_SECONDS)))
    scored = num_scored / (time.monotonic() - start)
    workers = needed_workers(made_img_s=made, scored_img_s=scored, most=most)
    text = "machine.workers: auto: %d of %d: one makes %.0f img/s, the device scores %.0f"
    logger.info(text, workers, most, made, scored)
    return workers


def needed_workers(*, made_img_s: float, scored_img_s: float, most: int) -> int:
    """Return the fewest workers that make, with a margin, what the device takes; at least one."""
    return max(1, min(most, math.ceil(_MARGIN * scored_img_s / made_img_s)))


def is_worth_trying(
    wanted: bool | Literal["auto"], *, seconds_left: float, device: torch.device, team: Team
) -> bool:
    """Return whether `auto` should measure compiled steps.

    Not on a CPU, not in a team, whose processes would have to fail together, and not where the
    same bits are wanted every time: a clock decides.
    """
    return (
        wanted == "auto"
        and device.type == "cuda"
        and team.size == 1
        and not torch.are_deterministic_algorithms_enabled()
        and seconds_left >= WORTH_TRYING_SECONDS
    )


def compile_for_good(path: TrainingPath, *, call: Callable[[], object]) -> None:
    """Compile, by a first call; raise a UserError if this machine cannot."""
    # Importing it takes seconds, which only a run that compiles should wait.
    from torch._dynamo.exc import TorchDynamoException

    path.compile_embed()
    try:
        call()
    except TorchDynamoException as error:
        raise UserError(
            "params.yaml: machine.compile: true, and torch.compile cannot do it here: "
            f"{str(error).strip().splitlines()[0]}; use auto or false"
        ) from error


def take_faster(path: TrainingPath, *, eager: Rates, measure: Callable[[], Rates]) -> Rates:
    """Measure compiled steps, stay with the faster way, and return its rates.

    If compiled steps fail for any reason, out of memory included, fall back to eager steps, which
    have already run.
    """
    path.compile_embed()
    try:
        compiled = measure()
    except (InterruptedRunError, LostProcessError):
        raise
    # Errors of the compiler and of a GPU's memory are RuntimeErrors.
    except (NonFiniteError, RuntimeError) as error:
        path.undo_compile()
        torch.cuda.empty_cache()
        reason = str(error).strip().splitlines()[0]
        logger.warning("machine.compile: auto: not compiled: %s", reason)
        return eager
    faster = min(eager, compiled, key=lambda measured: measured.step_seconds)
    if faster is eager:
        path.undo_compile()
    chosen = "compiled" if path.is_compiled else "not compiled"
    text = "machine.compile: auto: %.1f ms a step compiled, %.1f ms not: %s"
    logger.info(text, 1e3 * compiled.step_seconds, 1e3 * eager.step_seconds, chosen)
    return faster
