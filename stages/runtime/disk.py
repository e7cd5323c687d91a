"""A disk without room: which errors mean it, and what to tell the user."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from stages.runtime.errors import UserError

# On the disk, for this user, in one file.
_NO_ROOM = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG")} - {None}


def is_disk_full(error: BaseException) -> bool:
    """Whether the system had no room for what was written."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def disk_full_error(error: BaseException) -> UserError | None:
    """What to tell the user, if this error or one that it came of is a full disk; else None."""
    seen: BaseException | None = error
    while seen is not None and not is_disk_full(seen):
        seen = seen.__cause__ or seen.__context__
    if not isinstance(seen, OSError):
        return None
    path = Path(seen.filename2 or seen.filename or ".")
    # pyarrow has words of its own, around those of the system.
    why = os.strerror(seen.errno or 0)
    # Set once temporary files were used: they may be what was written.
    places = [path, *([Path(tempfile.tempdir)] if tempfile.tempdir else [])]
    free = ", ".join(f"{_free_mb(place):,.0f} MB free at {place.as_posix()}" for place in places)
    return UserError(
        f"{path.as_posix()}: cannot be written: {why}; {free}. What stood there before still does; "
        "make room (`python -m stages.clean` lists what .work keeps) and run again"
    )


def _free_mb(path: Path) -> float:
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free / 1e6
