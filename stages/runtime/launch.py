"""Several processes for one run on this machine, by torch's elastic launcher."""

import logging
import os
import sys
import uuid
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from stages.runtime.errors import UserError

logger = logging.getLogger(__name__)


def is_to_be_launched(processes: int) -> bool:
    """Whether this process is the one that starts the others."""
    return processes > 1 and not dist.is_torchelastic_launched()


def launch(command: Sequence[str], *, processes: int, device: torch.device) -> int:
    """Run `python -m` with this module and arguments in so many processes; returns their exit code.

    A stop signal is passed on to each process once, which has 30 seconds to save its state.

    Raises:
        UserError: if there are fewer GPUs than processes.
    """
    _check(processes, device=device)
    cores = os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    if sys.platform == "win32":
        # torch is built without libuv there, and asks for it all the same.
        os.environ.setdefault("USE_LIBUV", "0")
    # What ended a process is said by the process.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    logger.info("starting %d processes", processes)
    start = elastic_launch(_config(processes), sys.executable)
    try:
        start("-m", *command)
    except ChildFailedError as error:
        return worst(failure.exitcode for failure in error.failures.values())
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0


def worst(codes: Iterable[int]) -> int:
    """The code that says most: one of a door's own before 1, which is a bug or a lost companion."""
    known = [code for code in codes if code > 1]
    return max(known, default=1)


def _config(processes: int) -> LaunchConfig:
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        # A process that failed is not started again by itself: `dvc repro` goes on.
        max_restarts=0,
    )


def _check(processes: int, *, device: torch.device) -> None:
    if device.type != "cuda":
        return
    if device.index is not None:
        raise UserError(
            f"params.yaml: machine.device: '{device}' is one GPU, machine.processes asks for "
            f"{processes}; use cuda and CUDA_VISIBLE_DEVICES to choose them"
        )
    if processes > (found := torch.cuda.device_count()):
        raise UserError(
            f"params.yaml: machine.processes: {processes} asked for, {found} CUDA devices found"
        )
