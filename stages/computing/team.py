"""The processes that train one model together, and how they agree.

A process without a launcher is a team of one, for which nothing here costs anything. All processes
must make the same collective calls in the same order, so any decision by clock, signal or file is
taken by one process and broadcast, or taken by all from gathered values.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stages.runtime.errors import LostProcessError, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """Process number `rank` of `size`, of which `local_size` are on this machine; 0 leads."""

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def lead(self, work: Callable[[], T]) -> T:
        """Do the work in the leader, and return its result in every process when it is done.

        Raises:
            SystemExit: in the others, with the leader's exit code, if the work raises there.
        """
        if self.size == 1:
            return work()
        outcome: list[Any] = [None]
        try:
            if self.leads:
                outcome = [(0, work())]
        except BaseException as error:
            dist.broadcast_object_list([(getattr(error, "exit_code", 1), None)], src=0)
            _part()
            raise
        dist.broadcast_object_list(outcome, src=0)
        code, result = outcome[0]
        if code:
            _part()
            raise SystemExit(code)
        return cast(T, result)

    def greatest(self, *values: int) -> tuple[int, ...]:
        """Return, for each value, the greatest of all processes."""
        if self.size == 1:
            return values
        numbers = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return tuple(numbers.tolist())

    def sum(self, value: float) -> float:
        """Add a number over all processes, with the same bits in each."""
        if self.size == 1:
            return value
        parts = torch.zeros(self.size, dtype=torch.float64)
        parts[self.rank] = value
        dist.all_reduce(parts)
        return float(sum(parts.tolist()))

    def total(self, tensor: Tensor) -> Tensor:
        """Add a tensor over all processes, on its device."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: T) -> list[T]:
        """Return every process's value, by rank."""
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


ALONE = Team()


@contextmanager
def join_team(device: torch.device) -> Iterator[Team]:
    """Join the processes that a launcher started; without a launcher, be alone.

    On GPUs each process of a machine gets its own: `cuda` means that GPU from here on.

    Raises:
        UserError: if one GPU is named for all of them.
        LostProcessError: if another process of the team has ended; that process says why.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    if device.type == "cuda":
        refuse_one_gpu(device)
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"]))
    except RuntimeError as error:
        # Gloo has no error class of its own.
        is_gloo = type(error) is RuntimeError and "gloo" in str(error)
        if not is_gloo and not isinstance(error, dist.DistError):
            raise
        raise LostProcessError(
            "another process of this run has ended, and says why if it could; run again to go on "
            f"from the last checkpoint ({error})"
        ) from error
    dist.destroy_process_group()


def refuse_one_gpu(device: torch.device) -> None:
    """Refuse a GPU that is named for several processes."""
    if device.index is not None:
        raise UserError(
            f"params.yaml: machine.device: '{device}' is one GPU for several processes; use cuda, "
            "and CUDA_VISIBLE_DEVICES to choose among them"
        )


def _part() -> None:
    """Wait for the others before this process ends: else they see a lost process, not its code.

    Left to the interpreter's exit, the threads of the group may abort the process.
    """
    with suppress(RuntimeError):
        dist.barrier()
        dist.destroy_process_group()
