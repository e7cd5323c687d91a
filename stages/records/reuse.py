"""A source's finished folder in `.work/standardize/<source>/<fingerprint>`: found there, or made.

Only the newest fingerprint of a source is kept: an older recipe comes back from DVC's run cache,
and the disk holds no third copy.
"""

import logging
import shutil
import time
from pathlib import Path, PurePosixPath

import cv2
import pyarrow as pa

from stages.config import Standardize
from stages.records.faces import INDEX, read_index
from stages.records.intake import check_source, count_rejects, write_source
from stages.runtime.errors import UserError
from stages.runtime.files import published_folder, sha256_json, work_folder
from stages.sources.tree import RawTree, open_tree

# Raised when the same raw bytes and params give other faces.
STANDARDIZE_VERSION = 1

logger = logging.getLogger(__name__)


def finished_source(name: str, *, raw: Path, settings: Standardize) -> Path:
    """Read a source, unless its bytes and params are those of the last run; check and log it.

    Raises:
        UserError: if it is missing, not laid out as its format says, without faces, or has more
            broken rows than `max_reject_share`. The finished folder stays, to look at its rejects.
    """
    start = time.perf_counter()
    source = settings.sources[name]
    with open_tree(_path(name, raw=raw, settings=settings), key=_key(name)) as tree:
        folder = work_folder("standardize", name) / source_fingerprint(
            name, tree, settings=settings
        )
        reused = is_finished(folder)
        if not reused:
            with published_folder(folder) as temporary:
                write_source(
                    temporary,
                    tree,
                    name=name,
                    source=source,
                    crop_margin=settings.crop_margin,
                    shard_mb=settings.shard_mb,
                )
            _remove_others(folder)
    _log(name, folder, reused=reused, seconds=time.perf_counter() - start)
    check_source(folder, name=name, max_reject_share=settings.max_reject_share)
    return folder


def source_fingerprint(name: str, tree: RawTree, *, settings: Standardize) -> str:
    """SHA-256 of all that a source folder depends on.

    The libraries that decode and write are part of it: another version may give other bytes.
    """
    return sha256_json(
        {
            "version": STANDARDIZE_VERSION,
            "libraries": {"opencv": cv2.__version__, "pyarrow": pa.__version__},
            "source": settings.sources[name].model_dump(),
            "crop_margin": settings.crop_margin,
            "shard_mb": settings.shard_mb,
            "content": tree.content_sha256(),
        }
    )


def is_finished(folder: Path) -> bool:
    """Whether a source folder is there with all its shards."""
    if not (folder / INDEX).exists():
        return False
    try:
        read_index(folder)
    except UserError:
        return False
    return True


def _path(name: str, *, raw: Path, settings: Standardize) -> Path:
    # The path stands in every face's `raw` column, which must not hold a path of this machine.
    path = PurePosixPath(settings.sources[name].path)
    if path.is_absolute() or ".." in path.parts or "\\" in str(path) or ":" in str(path):
        raise UserError(
            f"params.yaml: {_key(name)}: expected a path below `raw`, with /, got {path}"
        )
    return raw / path


def _key(name: str) -> str:
    return f"standardize.sources.{name}.path"


def _remove_others(folder: Path) -> None:
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other)


def _log(name: str, folder: Path, *, reused: bool, seconds: float) -> None:
    num_faces, rejects = read_index(folder)["faces"], count_rejects(folder)
    counted = ", ".join(f"{reason} {count:,}" for reason, count in rejects.items()) or "none"
    if reused:
        pace = "unchanged, reused"
    else:
        pace = f"{seconds:.1f} s, {(num_faces + sum(rejects.values())) / seconds:,.0f} rows/s"
    logger.info("%s: %s faces; rejects: %s; %s", name, f"{num_faces:,}", counted, pace)
