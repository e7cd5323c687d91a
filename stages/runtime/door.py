"""What every door shares: logging and exit codes."""

import logging
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec

from stages.runtime.cores import limit_threads
from stages.runtime.disk import disk_full_error
from stages.runtime.errors import InterruptedRunError, LockHeldError, LostProcessError, UserError

DONE = 0

# Control characters but tab and line feed, and those that turn the direction of text: a file's
# name could clear a terminal. Messages have lines of their own, so a line feed passes.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LIBRARY = re.compile(r"(\S+\.so[.\d]*): cannot open shared object file")
_INSTALL = "pip install -r requirements.txt -c constraints.txt"
_OPENCV = (
    "opencv-python wants libraries of a display: on Debian and Ubuntu `apt-get install libgl1 "
    "libglib2.0-0`, or `pip uninstall opencv-python` and then `pip install opencv-python-headless`"
)


def run_door(work: Callable[[], int | None]) -> int:
    """Do a door's work and return its exit code, or the one that the work returns.

    A bug keeps its traceback; a package or system library that is not installed is none.

    Of several processes that train together the first one logs; of the others only what goes wrong
    is seen.
    """
    # Set by other programs, too: it counts where torch's launcher has started this process.
    rank = int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0
    handler = logging.StreamHandler(sys.stderr)
    process = f"process {rank}: " if rank else ""
    handler.setFormatter(
        _PrintableFormatter(f"%(asctime)s %(levelname)s {process}%(message)s", "%H:%M:%S")
    )
    logging.basicConfig(level=logging.WARNING if rank else logging.INFO, handlers=[handler])
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
    except ImportError as error:
        if (message := not_installed(error)) is None:
            raise
        _tell(UserError(message))
        return UserError.exit_code
    except (OSError, RuntimeError) as error:
        if (told := disk_full_error(error)) is None:
            raise
        _tell(told)
        return told.exit_code


def printable(text: str) -> str:
    """A text for a terminal: what controls it or hides in it is shown as Python writes it."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def not_installed(error: ImportError) -> str | None:
    """What is missing and what installs it; None for an import that is a bug."""
    package = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError):
        if package in ("", "stages", "tools") or find_spec(package) is not None:
            return None
        called = "opencv-python (cv2)" if package == "cv2" else package
        return f"the Python package {called} is not installed; `{_INSTALL}`"
    words = " ".join(str(error).split())
    if package == "cv2":
        return f"opencv-python (cv2) is installed and does not load: {words}; {_OPENCV}"
    if found := _LIBRARY.search(words):
        return f"{package or 'a package'} needs the system library {found[1]}, which is missing"
    return None


class _PrintableFormatter(logging.Formatter):
    """Log lines that control no terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _tell(error: Exception) -> None:
    # The log may be a file on the disk that is full.
    with suppress(OSError):
        print(f"error: {printable(str(error))}", file=sys.stderr)
