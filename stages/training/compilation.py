"""The part of a model that torch.compile makes faster, and whether it does."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from stages.computing.team import Team
from stages.runtime.errors import InterruptedRunError, LostProcessError, UserError
from stages.training.outcomes import NonFiniteError

Wanted = bool | Literal["auto"]
Embed = Callable[[Tensor], Tensor]

# Compiling takes a minute or two: `auto` tries it where that is little beside what is left.
WORTH_TRYING_SECONDS = 1800.0

logger = logging.getLogger(__name__)


class Measured(Protocol):
    """What steps showed."""

    @property
    def step_seconds(self) -> float:
        """Of one step."""
        ...


M = TypeVar("M", bound=Measured)


class CompilableEmbed:
    """Images to embeddings: as the model computes them until `compile` is called.

    The model itself is left alone, so its weights keep their names, and evaluation, average and
    export their way. Batches of an epoch have two sizes at most, each compiled for itself.
    """

    def __init__(self, embed: Embed) -> None:
        self._eager = self._used = embed

    def __call__(self, images: Tensor) -> Tensor:
        """Embeddings (N, E) of images (N, 3, S, S)."""
        return self._used(images)

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled way is used."""
        return self._used is not self._eager

    def compile(self) -> None:
        """Compute by torch.compile from now on; it compiles when it is called first."""
        self._used = torch.compile(self._eager, dynamic=False)

    def undo(self) -> None:
        """Compute as the model does."""
        self._used = self._eager


def is_worth_trying(
    wanted: Wanted, *, seconds_left: float, device: torch.device, team: Team
) -> bool:
    """Whether `auto` should measure the compiled way.

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


def compile_for_good(embed: CompilableEmbed, *, call: Callable[[], object]) -> None:
    """Compile, by a first call.

    Raises:
        UserError: if this machine cannot.
    """
    embed.compile()
    try:
        with _failure_named():
            call()
    except _CompilationError as error:
        raise UserError(
            f"params.yaml: machine.compile: true, and torch.compile cannot do it here: {error}; "
            "use auto or false"
        ) from error


def take_faster(embed: CompilableEmbed, *, eager: M, measure: Callable[[], M]) -> M:
    """Measure the compiled way too, stay with the faster one, and return what that one showed.

    Whatever keeps it from its steps, want of memory too, is no reason to stop: they ran without.
    """
    embed.compile()
    try:
        with _failure_named():
            compiled = measure()
    except (InterruptedRunError, LostProcessError):
        raise
    except (_CompilationError, NonFiniteError, RuntimeError) as error:
        embed.undo()
        torch.cuda.empty_cache()
        logger.warning("machine.compile: auto: not compiled: %s", str(error).splitlines()[0])
        return eager
    faster = min(eager, compiled, key=lambda measured: measured.step_seconds)
    if faster is eager:
        embed.undo()
    logger.info(
        "machine.compile: auto: %.1f ms a step compiled, %.1f ms not: %s",
        1e3 * compiled.step_seconds,
        1e3 * eager.step_seconds,
        "compiled" if embed.is_compiled else "not compiled",
    )
    return faster


class _CompilationError(Exception):
    """What keeps a model from being compiled on this machine, on one line."""


@contextmanager
def _failure_named() -> Iterator[None]:
    # Importing it takes seconds, which only who compiles should wait.
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        raise _CompilationError(str(error).strip().splitlines()[0]) from error
