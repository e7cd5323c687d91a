"""What every door shares: logging and exit codes."""

import logging
import sys
from collections.abc import Callable

from stages.runtime.errors import InterruptedRunError, LockHeldError, UserError

DONE, USER_ERROR, LOCKED = 0, 2, 3


def run_door(work: Callable[[], None]) -> int:
    """Do a door's work and return its exit code; a bug keeps its traceback."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    try:
        work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except LockHeldError as error:
        print(f"error: {error}", file=sys.stderr)
        return LOCKED
    except InterruptedRunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 128 + error.signal_number
    return DONE
