"""What `.work` keeps: the trainer's runs and the copies of sources that standardize reuses.

What is chosen is removed under its lock, so never from under a process that works in it.
"""

import contextlib
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from stages.runtime.errors import LockHeldError, UserError
from stages.runtime.files import leftovers, read_json, remove
from stages.runtime.lock import HOLDER, LOCK, describe_holder, is_held, removal_lock, run_lock
from stages.training.run import IDENTITY, LAST, STATUS, kept_files

COPIES = "standardize"
# Digits of a fingerprint in a run's name.
_DIGITS = 16
_RUN = re.compile(r"[0-9a-f]{16}(\.old-\d{8}T\d{6}Z)?")
_COPY = re.compile(r"[0-9a-f]{64}")
_OUTS = ("standardized", "manifests", "models", "plots", "metrics")
_COLUMNS = ("stage", "teacher", "fingerprint", "state", "epoch", "size", "last write", "held by")


@dataclass(frozen=True)
class Kept:
    """A run, or a copy of a source (its `teacher` is the source).

    A run is `running` while its lock is held, `finished` when models/ holds what it made, `trained`
    when all its epochs are done but models/ holds another run or none, `set aside` by `--fresh`,
    and else `interrupted`. A copy is `running` or `finished`; all copies share one lock. `holder`
    is empty if the lock is free.
    """

    stage: str
    teacher: str
    fingerprint: str
    folder: Path
    state: str
    epoch: str
    num_bytes: int
    last_write: float
    lock_folder: Path
    holder: str

    @property
    def age_days(self) -> float:
        """Days since the last write."""
        return max(time.time() - self.last_write, 0.0) / 86_400

    @property
    def name(self) -> str:
        """Name of the run for `python -m tools.clean`."""
        return f"{self.stage}/{self.teacher}/{self.fingerprint}"


def find_kept(work: Path, *, models: Path) -> list[Kept]:
    """Return all runs and copies in `.work`, by name; other files there are never touched."""
    kept = []
    for folder in sorted(work.glob("*/*/*")):
        stage, teacher = folder.parent.parent.name, folder.parent.name
        pattern = _COPY if stage == COPIES else _RUN
        if folder.is_symlink() or not folder.is_dir() or not pattern.fullmatch(folder.name):
            continue
        if stage == COPIES:
            lock, name, state, epoch = work / COPIES, folder.name[:_DIGITS], "finished", "-"
        else:
            lock, name = folder, folder.name
            state, epoch = _state_and_epoch(folder, card=models / stage / teacher / "teacher.json")
        holder = describe_holder(lock) if is_held(lock) else ""
        state = "running" if holder else state
        size = _size_and_last_write(folder)
        kept.append(Kept(stage, teacher, name, folder, state, epoch, *size, lock, holder))
    return kept


def named(kept: Sequence[Kept], *, names: Iterable[str]) -> list[Kept]:
    """Return those named in full, or by the start of a fingerprint that no other has.

    Raises:
        UserError: for a name that fits nothing or several.
    """
    chosen = []
    for name in names:
        wanted = name.replace("\\", "/").strip("/").removeprefix(".work/")
        owner, _, start = wanted.rpartition("/")
        of_owner = [run for run in kept if owner in ("", f"{run.stage}/{run.teacher}")]
        fits = [run for run in of_owner if run.fingerprint == start]
        fits = fits or [run for run in of_owner if start and run.fingerprint.startswith(start)]
        if len(fits) > 1:
            raise UserError(f"{name!r} fits several: {[run.name for run in fits]}")
        if not fits:
            known = [run.name for run in kept]
            raise UserError(f"{name!r} fits nothing in .work; known: {known}")
        chosen += fits
    return list(dict.fromkeys(chosen))


def remove_kept(run: Kept) -> None:
    """Remove a run or a copy; a `LockHeldError` says that a process works in it."""
    if run.stage == COPIES:
        with run_lock(run.lock_folder):
            # Without its index it is no finished copy any more, should this be cut short.
            (run.folder / "index.json").unlink(missing_ok=True)
            remove(run.folder)
        return
    with removal_lock(run.folder):
        if _size_and_last_write(run.folder)[1] > run.last_write:
            raise LockHeldError(run.folder, "one that came and went since the list was made")
        for path in kept_files(run.folder):
            remove(path)


def half_written(work: Path) -> dict[Path, Path]:
    """Return what killed processes left in runs and copies that nobody works in.

    Each path comes with the folder whose lock guards it: taking the lock removes what is left.
    """
    left = {}
    for path in leftovers(work):
        parts = path.relative_to(work).parts
        if parts[0] == COPIES:
            left[path] = work / COPIES
        elif len(parts) > 3 and _RUN.fullmatch(parts[2]):
            left[path] = work.joinpath(*parts[:3])
    return {path: owner for path, owner in left.items() if not is_held(owner)}


def half_written_outside(root: Path) -> list[Path]:
    """Return what killed processes left beside the pipeline's outs; the next writer removes it."""
    beside = [path for name in _OUTS for path in leftovers(root, pattern=f".{name}.tmp-*")]
    return beside + [path for name in _OUTS for path in leftovers(root / name)]


def table(kept: Sequence[Kept]) -> str:
    """Return a line for each run or copy, columns aligned, and the sum of their sizes."""
    rows = [_COLUMNS]
    for run in kept:
        size, age = readable_size(run.num_bytes), _readable_age(run.age_days)
        cells = (run.stage, run.teacher, run.fingerprint, run.state, run.epoch, size, age)
        rows.append((*cells, run.holder))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    total = readable_size(sum(run.num_bytes for run in kept))
    return "\n".join([*lines, f"{len(kept)} in .work: {total}"])


def readable_size(num_bytes: int) -> str:
    """Return a size such as `1.2 GB`."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if num_bytes >= 10**power:
            return f"{num_bytes / 10**power:.1f} {unit}"
    return f"{num_bytes} B"


def _readable_age(days: float) -> str:
    minutes = days * 24 * 60
    if minutes < 120:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.0f} h ago" if days < 2 else f"{days:.0f} days ago"


def _state_and_epoch(folder: Path, *, card: Path) -> tuple[str, str]:
    """Return a run's state, and the epochs that are done, with tenths in mid-epoch."""
    status, identity = _read_object(folder / STATUS), _read_object(folder / IDENTITY)
    stage, last = folder.parent.parent.name, folder / LAST
    epochs = status.get("epochs") or identity.get("params", {}).get(stage, {}).get("epochs")
    if len(folder.name) > _DIGITS:
        state = "set aside"
    # A run that `--fresh` began anew is published as it was before.
    elif status and (epochs is None or status["epoch"] < epochs):
        state = "interrupted"
    elif _read_object(card).get("fingerprint", "")[:_DIGITS] == folder.name:
        state = "finished"
    else:
        state = "trained" if status else "interrupted"
    if not status or (last.exists() and (folder / STATUS).stat().st_mtime < last.stat().st_mtime):
        return state, "unknown"
    done = f"{status['epoch']}"
    if status["batch"] and status["num_batches"]:
        done += f".{10 * status['batch'] // status['num_batches']}"
    return state, done if epochs is None else f"{done} of {epochs}"


def _size_and_last_write(folder: Path) -> tuple[int, float]:
    num_bytes, last_write = 0, 0.0
    for file in folder.rglob("*"):
        # A process at work may replace it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            stat = file.stat()
            if S_ISREG(stat.st_mode) and file.name not in (LOCK, HOLDER):
                num_bytes += stat.st_size
                last_write = max(last_write, stat.st_mtime)
    return num_bytes, last_write or folder.stat().st_mtime


def _read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty if it cannot be read: the run then counts as not finished."""
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
