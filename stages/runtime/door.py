"""What every door shares: logging and exit codes."""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from stages.runtime.cores import limit_threads
from stages.runtime.disk import disk_full_error
from stages.runtime.errors import InterruptedRunError, LockHeldError, LostProcessError, UserError

DONE = 0


def run_door(work: Callable[[], int | None]) -> int:
    """Do a door's work and return its exit code, or the one that the work returns.

    A bug keeps its traceback.

    Of several processes that train together the first one logs; of the others only what goes wrong
    is seen.
    """
    # Set by other programs, too: it counts where torch's launcher has started this process.
    rank = int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0
    logging.basicConfig(
        level=logging.WARNING if rank else logging.INFO,
        format=f"%(asctime)s %(levelname)s {f'process {rank}: ' if rank else ''}%(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    limit_threads()
    try:
        return work() or DONE
    except (UserError, LockHeldError, LostProcessError) as error:
        _tell(error)
        return error.exit_code
    except InterruptedRunError as error:
        if rank == 0:
            _tell(error)
        return error.exit_code
    except (OSError, RuntimeError) as error:
        if (told := disk_full_error(error)) is None:
            raise
        _tell(told)
        return told.exit_code


def _tell(error: Exception) -> None:
    # The log may be a file on the disk that is full.
    with suppress(OSError):
        print(f"error: {error}", file=sys.stderr)
