"""A disk without room: which errors mean it, and what to tell the user."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from stages.runtime.errors import UserError

MAKE_ROOM = "make room (`python -m tools.clean` lists what .work keeps) and run again"
# On the disk, for this user, in one file.
_NO_ROOM = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG")} - {None}


def is_disk_full(error: BaseException) -> bool:
    """Whether the system had no room for what was written."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def no_room(error: BaseException | None) -> OSError | None:
    """The system's error of a full disk, if it is this one or one that this one came of."""
    while error is not None and not is_disk_full(error):
        # torch and pyarrow have errors of their own, around those of the system.
        error = error.__cause__ or error.__context__
    return error if isinstance(error, OSError) else None


def free_bytes(path: Path) -> int:
    """How much room there is at a path, which need not exist."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def disk_full_error(error: BaseException) -> UserError | None:
    """What to tell the user, if this error or one that it came of is a full disk; else None."""
    if (cause := no_room(error)) is None:
        return None
    path = Path(cause.filename2 or cause.filename or ".")
    # Set once temporary files were used: they may be what was written.
    places = [path, *([Path(tempfile.tempdir)] if tempfile.tempdir else [])]
    free = ", ".join(f"{free_bytes(place) / 1e6:,.0f} MB free at {place}" for place in places)
    return UserError(
        f"{path.as_posix()}: cannot be written: {os.strerror(cause.errno or 0)}; {free}. "
        f"What stood there before still does; {MAKE_ROOM}"
    )
