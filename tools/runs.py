"""What `.work` keeps: the trainer's runs and the copies of sources that standardize reuses.

In: `.work`, and the cards of published teachers. What is chosen is removed under its lock, so never
from under a process that works in it.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any

from stages.runtime.errors import LockHeldError, UserError
from stages.runtime.files import leftovers, read_json, remove
from stages.runtime.lock import HOLDER, LOCK, describe_holder, is_held, removal_lock, run_lock
from stages.training.run import IDENTITY, LAST, STATUS, kept_files

COPIES = "standardize"
_SECONDS_PER_DAY = 86_400
# Of a fingerprint, in a run's name.
_DIGITS = 16
_RUN = re.compile(r"[0-9a-f]{16}(\.old-\d{8}T\d{6}Z)?")
_COPY = re.compile(r"[0-9a-f]{64}")
_OUTS = ("standardized", "manifests", "models", "plots", "metrics")


@dataclass(frozen=True)
class Kept:
    """A run, or a copy of a source (its `teacher` is the source); `holder` is empty if it is free.

    A run is `running` while its lock is held, `finished` when models/ holds what it made, `trained`
    when all its epochs are done but models/ holds another run or none, `set aside` by `--fresh`,
    and else `interrupted`. A copy is `running` or `finished`.
    """

    stage: str
    teacher: str
    fingerprint: str
    folder: Path
    state: str
    epoch: str
    num_bytes: int
    last_write: float
    holder: str = ""

    @property
    def age_days(self) -> float:
        """Since the last write."""
        return max(time.time() - self.last_write, 0.0) / _SECONDS_PER_DAY

    @property
    def name(self) -> str:
        """What `python -m tools.clean` calls it."""
        return f"{self.stage}/{self.teacher}/{self.fingerprint}"


def find_kept(work: Path, *, models: Path) -> list[Kept]:
    """All runs and copies in `.work`, by name; other files there are never touched."""
    found = []
    for folder in sorted(work.glob("*/*/*")):
        if folder.is_symlink() or not folder.is_dir():
            continue
        is_copy = folder.parent.parent.name == COPIES
        if is_copy and _COPY.fullmatch(folder.name):
            found.append(_copy(folder))
        if not is_copy and _RUN.fullmatch(folder.name):
            found.append(_run(folder, models=models))
    return [_if_held(one) for one in found]


def named(kept: Sequence[Kept], *, names: Iterable[str]) -> list[Kept]:
    """Those that are named in full, or by the start of a fingerprint that no other has.

    Raises:
        UserError: for a name that fits none or several.
    """
    return list(dict.fromkeys(_find(kept, name=name) for name in names))


def finished(kept: Sequence[Kept]) -> list[Kept]:
    """Runs that made what models/ holds."""
    return [one for one in kept if one.state == "finished" and one.stage != COPIES]


def older_than(kept: Sequence[Kept], *, days: float) -> list[Kept]:
    """Runs without a write for so long; a copy is written once, so its age says nothing."""
    return [one for one in kept if one.age_days >= days and one.stage != COPIES]


def for_each(
    kept: Iterable[Kept], *, dispose: Callable[[Kept], None]
) -> tuple[list[Kept], list[tuple[Kept, LockHeldError]]]:
    """Dispose of all but those in which a process works; returns which went and which did not."""
    gone, refused = [], []
    for one in kept:
        try:
            dispose(one)
            gone.append(one)
        except LockHeldError as error:
            refused.append((one, error))
    return gone, refused


def require_free(one: Kept) -> None:
    """Do nothing to a run or a copy that could be removed.

    Raises:
        LockHeldError: when a process works in it.
    """
    if one.holder:
        raise LockHeldError(one.folder, one.holder)


def remove_kept(one: Kept) -> None:
    """Remove a run or a copy.

    Raises:
        LockHeldError: when a process works in it.
    """
    if one.stage == COPIES:
        with run_lock(one.folder.parent.parent):
            # Without its index it is no finished copy any more, should this be cut short.
            (one.folder / "index.json").unlink(missing_ok=True)
            remove(one.folder)
        return
    with removal_lock(one.folder):
        if _last_write(one.folder) > one.last_write:
            raise LockHeldError(one.folder, "one that came and went since the list was made")
        for path in kept_files(one.folder):
            remove(path)


def half_written(work: Path) -> list[Path]:
    """What killed processes left in the folders of runs and copies in which no process works."""
    return [path for path in leftovers(work) if _is_free(_owner(path, work=work))]


def remove_half_written(work: Path) -> list[Path]:
    """Remove it, unless a process begins to work there meanwhile; returns what is gone."""
    found = half_written(work)
    for owner in {owner for path in found if (owner := _owner(path, work=work))}:
        # Whoever takes the lock removes what was left there.
        with contextlib.suppress(LockHeldError), run_lock(owner):
            pass
    return [path for path in found if not path.exists()]


def half_written_outside(root: Path) -> list[Path]:
    """What killed processes left beside the outs of the pipeline; removed by who writes next."""
    beside = [path for name in _OUTS for path in leftovers(root, pattern=f".{name}.tmp-*")]
    return beside + [path for name in _OUTS for path in leftovers(root / name)]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(stat.st_size for stat in _stats(path))


def _find(kept: Sequence[Kept], *, name: str) -> Kept:
    wanted = name.replace("\\", "/").strip("/").removeprefix(".work/")
    owner, _, start = wanted.rpartition("/")
    of_owner = [one for one in kept if owner in ("", f"{one.stage}/{one.teacher}")]
    fits = [one for one in of_owner if one.fingerprint == start]
    fits = fits or [one for one in of_owner if start and one.fingerprint.startswith(start)]
    if len(fits) > 1:
        raise UserError(f"{name!r} fits several: {[one.name for one in fits]}")
    if not fits:
        raise UserError(f"{name!r} fits nothing in .work; known: {[one.name for one in kept]}")
    return fits[0]


def _run(folder: Path, *, models: Path) -> Kept:
    stage, teacher = folder.parent.parent.name, folder.parent.name
    status = _json(folder / STATUS)
    identity = _json(folder / IDENTITY)
    epochs = status.get("epochs") or identity.get("params", {}).get(stage, {}).get("epochs")
    published = _json(models / stage / teacher / "teacher.json").get("fingerprint", "")
    return Kept(
        stage,
        teacher,
        folder.name,
        folder,
        state=_state(
            status,
            epochs=epochs,
            is_old=len(folder.name) > _DIGITS,
            is_published=published[:_DIGITS] == folder.name,
        ),
        epoch=_epoch(status, epochs=epochs) if _is_current(folder) else "unknown",
        num_bytes=size_of(folder),
        last_write=_last_write(folder),
    )


def _state(
    status: Mapping[str, Any], *, epochs: int | None, is_old: bool, is_published: bool
) -> str:
    if is_old:
        return "set aside"
    if not status:
        return "finished" if is_published else "interrupted"
    # A run that `--fresh` began anew is published as it was before.
    if epochs is None or status["epoch"] < epochs:
        return "interrupted"
    return "finished" if is_published else "trained"


def _epoch(status: Mapping[str, Any], *, epochs: int | None) -> str:
    """Epochs that are done, with tenths in mid-epoch."""
    done = f"{status['epoch']}"
    if status["batch"] and status["num_batches"]:
        done += f".{10 * status['batch'] // status['num_batches']}"
    return done if epochs is None else f"{done} of {epochs}"


def _is_current(folder: Path) -> bool:
    """Whether the status is there, and of the last checkpoint."""
    status, last = folder / STATUS, folder / LAST
    if not status.exists():
        return False
    return not last.exists() or status.stat().st_mtime_ns >= last.stat().st_mtime_ns


def _copy(folder: Path) -> Kept:
    return Kept(
        COPIES,
        folder.parent.name,
        folder.name[:_DIGITS],
        folder,
        state="finished",
        epoch="-",
        num_bytes=size_of(folder),
        last_write=_last_write(folder),
    )


def _if_held(one: Kept) -> Kept:
    lock = one.folder.parent.parent if one.stage == COPIES else one.folder
    if not is_held(lock):
        return one
    return replace(one, state="running", holder=describe_holder(lock))


def _is_free(owner: Path | None) -> bool:
    return owner is not None and not is_held(owner)


def _owner(path: Path, *, work: Path) -> Path | None:
    """The folder whose lock guards what lies half-written at `path`, if there is one."""
    parts = path.relative_to(work).parts
    if parts[0] == COPIES:
        return work / COPIES
    if len(parts) > 3 and _RUN.fullmatch(parts[2]):
        return work.joinpath(*parts[:3])
    return None


def _stats(path: Path) -> Iterator[os.stat_result]:
    for file in [path, *path.rglob("*")]:
        # A process at work may replace it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            stat = file.stat()
            if S_ISREG(stat.st_mode) and file.name not in (LOCK, HOLDER):
                yield stat


def _last_write(folder: Path) -> float:
    return max((stat.st_mtime for stat in _stats(folder)), default=folder.stat().st_mtime)


def _json(path: Path) -> dict[str, Any]:
    """A JSON object, empty if there is none: the run is then shown as not known to be finished."""
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
