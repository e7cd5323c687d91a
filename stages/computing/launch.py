"""Several processes for one run on this machine, by torch's elastic launcher."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from stages.computing.team import refuse_one_gpu
from stages.runtime.errors import UserError
from stages.runtime.machine import limit_threads
from stages.runtime.signals import heeded

logger = logging.getLogger(__name__)


def is_to_be_launched(processes: int) -> bool:
    """Return whether this process starts the others."""
    return processes > 1 and not dist.is_torchelastic_launched()


def launch(command: Sequence[str], *, processes: int, device: torch.device) -> int:
    """Run `python -m` with this module and arguments in `processes`, and return their exit code.

    A stop signal is passed on to each process once, which has ten minutes to save its state (30
    seconds with a torch that does not know the variable).

    Raises:
        UserError: if there are fewer GPUs than processes, or on Windows.
    """
    if sys.platform == "win32":
        raise UserError(
            "params.yaml: machine.processes: torch cannot start several processes on Windows; use "
            "1, or WSL"
        )
    if device.type == "cuda":
        refuse_one_gpu(device)
        if processes > (found := torch.cuda.device_count()):
            raise UserError(
                f"params.yaml: machine.processes: {processes} asked for, {found} CUDA devices found"
            )
    limit_threads(processes=processes)
    # A stop waits for an evaluation that has begun.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")
    for name in ("", ".agent.server.api"):
        logging.getLogger(f"torch.distributed.elastic{name}").setLevel(logging.CRITICAL)
    logger.info("starting %d processes", processes)
    try:
        # Torch would leave its own folder behind.
        with tempfile.TemporaryDirectory() as logs:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=processes,
                run_id=str(uuid.uuid4()),
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",
                # A failed process is not restarted: `dvc repro` goes on.
                max_restarts=0,
                logs_specs=DefaultLogsSpecs(log_dir=logs),
                signals_to_handle=",".join(number.name for number in heeded()),
            )
            elastic_launch(config, sys.executable)("-m", *command)
    except ChildFailedError as error:
        for rank, failure in error.failures.items():
            code = failure.exitcode
            ending = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            logger.error("process %d ended with %s", rank, ending)
        return worst(failure.exitcode for failure in error.failures.values())
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0


def worst(codes: Iterable[int]) -> int:
    """Return the code that says most: a door's own before 1, a bug or a lost process."""
    return max((code for code in codes if code > 1), default=1)
