"""Command line, logging and exit codes of every door; imports only what `--help` needs at once."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec

from stages.runtime.errors import (
    InterruptedRunError,
    LockHeldError,
    LostProcessError,
    UserError,
    disk_full_error,
)
from stages.runtime.machine import limit_threads

# Control characters except tab and line feed, and characters that turn the direction of text: a
# file's name could clear a terminal. Messages have lines of their own, so a line feed passes.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LIBRARY = re.compile(r"(\S+\.so[.\d]*): cannot open shared object file")
_INSTALL = "pip install -r requirements.txt -c constraints.txt"
_OPENCV = (
    "opencv-python wants libraries of a display: on Debian and Ubuntu `apt-get install libgl1 "
    "libglib2.0-0`, or `pip uninstall opencv-python` and then `pip install opencv-python-headless`"
)


def run_door(
    work: Callable[..., int | None],
    doc: str | None,
    argv: Sequence[str] | None = None,
    *,
    arguments: Callable[[argparse.ArgumentParser], object] = lambda _parser: None,
) -> int:
    """Parse the command line, do a door's work, and return the exit code.

    `arguments` adds the door's arguments to the parser; `work` gets their values by keyword. `doc`
    is what `--help` shows. A bug keeps its traceback; what is not installed is no bug.
    """
    spec = sys.modules[work.__module__].__spec__
    parser = argparse.ArgumentParser(
        prog=f"python -m {spec.name.removesuffix('.__main__')}" if spec else None,
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments(parser)
    values = vars(parser.parse_args(argv))
    # Other programs set RANK too; it counts where torch's launcher has started this process. Of
    # several processes that train together only the first logs more than warnings.
    rank = int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0
    process = f"process {rank}: " if rank else ""
    line = f"%(asctime)s %(levelname)s {process}%(message)s"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PrintableFormatter(line, "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING if rank else logging.INFO, handlers=[handler])
    limit_threads()
    try:
        return work(**values) or 0
    except (UserError, LockHeldError, LostProcessError, InterruptedRunError) as error:
        message, exit_code = str(error), error.exit_code
        if rank and isinstance(error, InterruptedRunError):
            return exit_code
    except (ImportError, OSError, RuntimeError) as error:
        known = not_installed(error) if isinstance(error, ImportError) else disk_full_error(error)
        if known is None:
            raise
        message, exit_code = str(known), UserError.exit_code
    # The log may be a file on the disk that is full.
    with suppress(OSError):
        print(f"error: {printable(message)}", file=sys.stderr)
    return exit_code


def printable(text: str) -> str:
    """Return a text that is safe for a terminal: control characters are spelled out."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def not_installed(error: ImportError) -> str | None:
    """Return what is missing and what installs it, or None for an import that is a bug."""
    package = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError):
        if package in ("", "stages", "tools") or find_spec(package) is not None:
            return None
        called = "opencv-python (cv2)" if package == "cv2" else package
        return f"the Python package {called} is not installed; `{_INSTALL}`"
    words = " ".join(str(error).split())
    if package == "cv2":
        return f"opencv-python (cv2) is installed and does not load: {words}; {_OPENCV}"
    if library := _LIBRARY.search(words):
        return f"{package or 'a package'} needs the system library {library[1]}, which is missing"
    return None


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
