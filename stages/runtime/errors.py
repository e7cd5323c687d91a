"""Errors that a door turns into an exit code instead of a traceback, and words for them."""

import difflib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

MAKE_ROOM = "make room (`python -m tools.clean` lists what .work keeps) and run again"
# No room on the disk, for this user, in one file.
_NO_ROOM = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG")} - {None}


class UserError(ValueError):
    """The user's params, data or files are wrong; the message says where and what to mend."""

    exit_code = 2


class LockHeldError(RuntimeError):
    """Another process works in the same folder."""

    exit_code = 3

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(f"{folder.name}: another run holds the lock: {holder}")


class InterruptedRunError(RuntimeError):
    """A stop signal arrived; `kept` says what was saved."""

    def __init__(self, signal_number: int, kept: str = "state saved, run again to go on") -> None:
        super().__init__(f"interrupted by signal {signal_number}; {kept}")
        self.exit_code = 128 + signal_number


class LostProcessError(RuntimeError):
    """Another process of the run has ended."""

    exit_code = 1


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1) -> str:
    """Return `did you mean 'x'?` for the known names most like `name`, or an empty text."""
    nearest = difflib.get_close_matches(name, list(known), n=most)
    if len(nearest) > 1:
        return f"did you mean one of {nearest}?"
    return f"did you mean {nearest[0]!r}?" if nearest else ""


def no_room(error: BaseException | None) -> OSError | None:
    """Return the error of a full disk that this error is or was caused by, or None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return error
        # torch and pyarrow wrap the system's errors in their own.
        error = error.__cause__ or error.__context__
    return None


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk of a path, which need not exist."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def disk_full_error(error: BaseException) -> UserError | None:
    """Return the message for the user if a full disk caused the error, else None."""
    if (cause := no_room(error)) is None:
        return None
    path = Path(cause.filename2 or cause.filename or ".")
    # `tempdir` is set once temporary files were used: they may have filled the disk.
    places = [path, *([Path(tempfile.tempdir)] if tempfile.tempdir else [])]
    free = ", ".join(f"{free_bytes(place) / 1e6:,.0f} MB free at {place}" for place in places)
    return UserError(
        f"{path.as_posix()}: cannot be written: {os.strerror(cause.errno or 0)}; {free}. "
        f"What stood there before still does; {MAKE_ROOM}"
    )
