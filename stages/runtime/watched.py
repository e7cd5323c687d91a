"""Files that DVC does not watch: they could change, and no stage would run again."""

import contextlib
import functools
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from stages.runtime.errors import UserError


def check_watched(
    path: Path, *, dep: Path, files: Iterable[str | Path], key: str, instead: str
) -> None:
    """Refuse files at or below `path` that DVC does not find when it looks through `dep`.

    DVC enters no linked folder but `dep` itself, no folder that is a DVC project of its own, and
    nothing that .dvcignore names. Linked files it follows. A path may be spelled in any way that
    its disk permits. `key` is the params key of `path`, `instead` what to do in place of a link.
    """
    on_disk = _spelling_on_disk(dep)
    seen = set(_seen_by_dvc(on_disk(path), dep=dep))
    # Before Python 3.12 nothing tells a junction of Windows from a folder, and DVC enters it.
    is_junction = getattr(os.path, "isjunction", lambda _path: False)
    for file in files:
        if _absolute(file) in seen or _absolute(on_disk(file)) in seen:
            continue
        name = Path(on_disk(file))
        for folder in [dep / above for above in reversed(name.relative_to(dep).parents)][1:]:
            if folder.is_symlink() or is_junction(folder):
                raise UserError(
                    f"params.yaml: {key}: {folder.as_posix()} is a linked folder, and DVC does not "
                    f"look behind it: a file that changes there would go unseen; {instead}"
                )
        raise UserError(
            f"params.yaml: {key}: DVC does not see {name.as_posix()}: .dvcignore names it, or it "
            "lies in a folder that is a DVC project of its own; a change of it would go unseen; "
            "change .dvcignore, or move the file"
        )


def _spelling_on_disk(dep: Path) -> Callable[[str | Path], str]:
    """Return a function that spells a path below `dep` as a listing of the disk does.

    It follows no link: a link is another file than its target.
    """

    @functools.cache
    def listing(folder: str) -> frozenset[str]:
        try:
            return frozenset(path.name for path in Path(folder).iterdir())
        except OSError:  # a zip with a folder inside, or a folder that DVC cannot list either
            return frozenset()

    def folded(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    @functools.cache
    def child(folder: str, part: str) -> str:
        """Return the path of the file that `part` opens in `folder`, as it is listed there."""
        if part not in (names := listing(folder)):
            # Names that look like it come first: a hard link is the same file too.
            for name in sorted(names, key=lambda name: (folded(name) != folded(part), name)):
                with contextlib.suppress(OSError):
                    if os.path.samestat(Path(folder, name).lstat(), Path(folder, part).lstat()):
                        part = name
                        break
        return os.path.join(folder, part)  # noqa: PTH118 - for speed

    return lambda path: functools.reduce(child, Path(path).relative_to(dep).parts, str(dep))


def _seen_by_dvc(path: str, *, dep: Path) -> Iterator[str]:
    """Yield the files at or below `path` as DVC's own walk of `dep` finds them, absolute."""
    # Importing DVC takes a while and sets up its logging; few commands come here.
    from dvc.fs import localfs
    from dvc.ignore import DvcIgnoreFilter

    wanted = Path(_absolute(path))
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
    ignore = DvcIgnoreFilter(localfs, str(root))
    for folder, subfolders, names in ignore.walk(localfs, _absolute(dep)):
        if Path(folder) in wanted.parents:
            on_the_way = {wanted, *wanted.parents}
            subfolders[:] = [name for name in subfolders if Path(folder, name) in on_the_way]
        yield from (os.path.join(folder, name) for name in names)  # noqa: PTH118 - for speed


def _absolute(path: str | Path) -> str:
    """Return the path as DVC spells it: links keep their own names."""
    return os.path.abspath(path)  # noqa: PTH100 - `resolve` would follow them
