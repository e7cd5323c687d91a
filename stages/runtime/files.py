"""Files that are whole or absent, and their hashes. Knows nothing of faces."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from stages.runtime.errors import UserError, no_room

if TYPE_CHECKING:
    import pandas as pd

_TRIES = 20
_COPIES = (".dvc", "tmp", "exps")
_ASIDE = ".old~"
_in_a_line = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_OWN_TEMPORARY = re.compile(r"\..+\.tmp-(?P<home>[0-9a-f]{8})-(?P<pid>\d+)")
# Beginnings that make a spreadsheet take a cell for a formula, some only in their wide form.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def project_root() -> Path:
    """Return the project that owns `.work`: the current folder, or of a copy the one copied.

    `dvc exp run --temp` and queues run in a copy of the git repository, which they remove. DVC_ROOT
    does not say: below a stage of another project it is that one's.
    """
    here = Path.cwd()
    copies = [folder for folder in here.parents if folder.parts[-3:] == _COPIES]
    if not copies:
        return Path()
    roots = []
    for folder in (here, copies[-1]):
        found = [parent for parent in (folder, *folder.parents) if (parent / ".git").exists()]
        if not found:
            raise UserError(f"{folder}: expected a git repository, found none around it")
        roots.append(found[0])
    return roots[1] / here.relative_to(roots[0])


def work_folder(*parts: str) -> Path:
    """Return the folder `.work/<parts>` of the project, made if needed.

    Raises:
        UserError: if it cannot be made, as on a read-only file system, or `.work` links to nothing.
    """
    work = project_root() / ".work"
    if work.is_symlink() and not work.exists():
        target = work.readlink()
        raise UserError(f"{work.as_posix()}: links to {target}, which is gone; make it, or unlink")
    folder = work.joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder.as_posix()}: cannot be made: {error.strerror}") from error
    return folder


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: after a crash there is the old one or the new one, never a part."""
    write_with(path, lambda temporary: temporary.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, a key or an entry of a list on a line of its own; NaN is refused."""
    write_text(path, _json_lines(value, margin="") + "\n")


def write_csv(path: Path, frame: "pd.DataFrame") -> str:
    r"""Write a frame without its index atomically and return the SHA-256 of the file.

    UTF-8, `\n` line ends on every system, missing values empty, numbers in the shortest form that
    reads back as the same number.
    """
    data = frame.to_csv(index=False, lineterminator="\n").encode("utf-8")
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def inert(text: str) -> str:
    """Return a stranger's text with an apostrophe in front if a spreadsheet would run it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it into place."""
    with _temporary_for(path) as temporary:
        write(temporary)
        sync(temporary)
        replace(temporary, path)


@contextmanager
def published_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its place when the block succeeds.

    After a crash there is the old folder or the new one, whole. It takes two moves: cut short
    between them, the old one lies beside its place until the end of the next call, which replaces
    it or brings it back.
    """
    aside = target.with_name(target.name + _ASIDE)
    with _temporary_for(target) as temporary:
        try:
            temporary.mkdir()
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_file():
                    sync(path)
            if target.exists():
                replace(target, _beside(aside))
            replace(temporary, target)
        finally:
            # A folder that was moved aside comes back if it has no successor.
            for old in _strays(aside):
                if target.exists():
                    _discard(old)
                else:
                    replace(old, target)


def sync(path: Path) -> None:
    """Return when a file's bytes are on the disk, so that a power cut cannot lose them."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def replace(source: Path, target: Path) -> None:
    """`os.replace`, tried again while another Windows process has the target open."""
    _patiently(lambda: source.replace(target))


def remove(path: Path) -> None:
    """Remove a file or a folder, tried again while another Windows process has it open."""
    _patiently(lambda: _remove_once(path))


def leftovers(folder: Path, *, pattern: str = "**/.*.tmp-*") -> list[Path]:
    """Return what lies half-written or replaced in `folder`, except what a process here writes."""

    def is_only_copy(path: Path) -> bool:
        name, aside, _ = path.name[1:].rpartition(f"{_ASIDE}.tmp-")
        return bool(aside) and not path.with_name(name).exists()

    paths = sorted(folder.glob(pattern))
    # What lies in a half-written folder goes with it.
    outermost = [path for path in paths if not set(path.parents) & set(paths)]
    return [path for path in outermost if not (_writer_runs(path) or is_only_copy(path))]


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def pid_space() -> str:
    """Return a hash of the machine and container in which this process's pid is valid."""
    namespace = Path("/proc/self/ns/pid")
    names = [str(namespace.readlink())] if namespace.is_symlink() else []
    return sha256_json([socket.gethostname(), *names])[:8]


def _json_lines(value: Any, *, margin: str) -> str:
    """Return JSON with a line for each key, and for each entry of a list that has inner parts."""
    inner = margin + "  "
    if isinstance(value, dict) and value:
        # A key that is no text becomes text.
        entries = [
            f"{_in_a_line(str(key))}: {_json_lines(entry, margin=inner)}"
            for key, entry in value.items()
        ]
        opening, closing = "{}"
    elif isinstance(value, list) and any(isinstance(entry, (dict, list)) for entry in value):
        entries = [_in_a_line(entry) for entry in value]
        opening, closing = "[]"
    else:
        return _in_a_line(value)
    return f"{opening}\n{inner}" + f",\n{inner}".join(entries) + f"\n{margin}{closing}"


@contextmanager
def _temporary_for(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` that only this process takes; remove those of dead processes.

    The error of a full disk names the file that was being written, not its temporary.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stray in _strays(path):
        _discard(stray)
    temporary = _beside(path)
    try:
        yield temporary
    except OSError as error:
        if full := no_room(error):
            # The system names no file for a write, and both files for a copy.
            named = Path(full.filename2 or full.filename or temporary)
            if named.is_relative_to(temporary):
                named = path / named.relative_to(temporary)
            full.filename, full.filename2 = str(named), None
        raise
    finally:
        _discard(temporary)


def _beside(path: Path) -> Path:
    """Return this process's temporary place for a path; its name says who writes there."""
    return path.with_name(f".{path.name}.tmp-{pid_space()}-{os.getpid()}")


def _strays(path: Path) -> list[Path]:
    """Return the temporary places for a path of this process and of dead ones of this machine."""
    start, beside = f".{path.name}.tmp-", _beside(path)
    others = sorted(other for other in path.parent.iterdir() if other.name.startswith(start))
    return [other for other in others if other == beside or _writer_runs(other) is False]


def _discard(path: Path) -> None:
    # Nobody needs it, so do not wait for a virus scanner that has it open.
    with contextlib.suppress(OSError):
        _remove_once(path)


def _remove_once(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _patiently(act: Callable[[], object]) -> None:
    for attempt in range(_TRIES):
        try:
            act()
            return
        except PermissionError:
            if sys.platform != "win32" or attempt == _TRIES - 1:
                raise
            time.sleep(0.1)


def _writer_runs(temporary: Path) -> bool | None:
    """Return whether the process that writes it still runs; None if only another machine knows."""
    name = _OWN_TEMPORARY.fullmatch(temporary.name)
    if name is None or name["home"] != pid_space():
        return None
    return bool(psutil.pid_exists(int(name["pid"])))
