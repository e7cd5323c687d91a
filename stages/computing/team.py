"""The processes that train one model together, and how they agree.

A process that no launcher started is a team of one, for which nothing here costs anything. A team
must come to the same calls in the same order: whatever decides which call comes next (a clock, a
signal, a file) is asked of one process, or of all of them.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stages.runtime.errors import LostProcessError, UserError, exit_code

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """Process number `rank` of `size`, of which `local_size` are on this machine; 0 leads."""

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def lead(self, work: Callable[[], T]) -> T:
        """Do the work in the leader, and return its result in every process, when it is done.

        Raises:
            SystemExit: in the others, with the leader's exit code, when the work raises there.
        """
        if self.size == 1:
            return work()
        if not self.leads:
            received: list[Any] = [None]
            dist.broadcast_object_list(received, src=0)
            code, led = received[0]
            if code:
                _part()
                raise SystemExit(code)
            return cast(T, led)
        try:
            result = work()
        except BaseException as error:
            self._tell((exit_code(error), None))
            _part()
            raise
        self._tell((0, result))
        return result

    def greatest(self, *values: int) -> tuple[int, ...]:
        """Of each value the greatest that any process has."""
        if self.size == 1:
            return values
        numbers = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return tuple(numbers.tolist())

    def sum(self, value: float) -> float:
        """The sum over all processes, the same bits in each."""
        if self.size == 1:
            return value
        parts = torch.zeros(self.size, dtype=torch.float64)
        parts[self.rank] = value
        dist.all_reduce(parts)
        return float(sum(parts.tolist()))

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, on the device where the parts lie."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def align(self, module: nn.Module) -> None:
        """Give every process the leader's weights and buffers."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                # Gloo takes no tensor whose channels lie last.
                values = tensor.contiguous()
                dist.broadcast(values, src=0)
                tensor.copy_(values)

    def _tell(self, message: tuple[int, Any]) -> None:
        dist.broadcast_object_list([message], src=0)


ALONE = Team()


@contextmanager
def join_team(device: torch.device) -> Iterator[Team]:
    """Be one of the processes that a launcher started; without a launcher, be alone.

    On GPUs each process of a machine gets one of its own: `cuda` is that one from here on.

    Args:
        device: of the kind that the model will live on.

    Raises:
        UserError: if one GPU is named for all of them.
        LostProcessError: when another process of the team has ended; that one says why.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    if device.type == "cuda":
        if device.index is not None:
            raise UserError(
                f"params.yaml: machine.device: '{device}' is one GPU for several processes; use "
                "cuda, and CUDA_VISIBLE_DEVICES to choose among them"
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        local_size = int(os.environ["LOCAL_WORLD_SIZE"])
        yield Team(dist.get_rank(), dist.get_world_size(), local_size)
    except RuntimeError as error:
        if not _is_of_a_lost_peer(error):
            raise
        raise LostProcessError(
            "another process of this run has ended, and says why if it could; run again to go on "
            f"from the last checkpoint ({error})"
        ) from error
    dist.destroy_process_group()


def _part() -> None:
    """Wait for the others before this process ends: who listens hears a closed line, not a code."""
    with suppress(RuntimeError):
        dist.barrier()


def _is_of_a_lost_peer(error: RuntimeError) -> bool:
    """Gloo has no error of its own."""
    is_gloo = type(error) is RuntimeError and "gloo" in str(error)
    return is_gloo or isinstance(error, dist.DistError)
