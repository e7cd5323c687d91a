"""A source's finished folder in `.work/standardize/<source>/<fingerprint>`: found there, or made.

The fingerprint names all that a face depends on, this code included: DVC runs the stage again after
a change of it, and would then publish what the old code has left. Only the newest fingerprint of a
source is kept: an older recipe comes back from DVC's run cache.
"""

import logging
import time
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import PIL
import pyarrow as pa
import simplejpeg

from stages.config import CLASSES, NOT_A_CLASS, Source, Standardize
from stages.faces.shards import read_index
from stages.intake.align import EyeDetector
from stages.intake.intake import COMPANIONS, TURNED, check_source, write_source
from stages.intake.pictures import Framing
from stages.runtime.errors import UserError
from stages.runtime.files import published_folder, remove, sha256_file, sha256_json, work_folder
from stages.runtime.watched import check_watched
from stages.sources.tree import RawTree, open_tree

# What decides over the bytes of a source folder, below the package.
_PACKAGE, _CODE = Path(__file__).parents[1], ("sources/*.py", "intake/*.py", "faces/*.py")
_INSTEAD_OF_LINK = (
    "name the other disk (`raw: /other/disk`), copy the folder, or link its files one by one "
    "(`cp -rs`)"
)

logger = logging.getLogger(__name__)


def read_framing(settings: Standardize, *, raw: Path) -> Framing:
    """Read how faces are cut out, and load the eye detector if the params name it.

    Raises:
        UserError: if its file is missing, not below `raw`, not watched by DVC, or no such model.
    """
    detector, key = None, "standardize.face_detector"
    if settings.face_detector is not None:
        file = _below(raw, settings.face_detector, key=key)
        if not file.is_file():
            raise UserError(f"params.yaml: {key}: expected an ONNX file, found none: {file}")
        check_watched(file, dep=raw, files=[file], key=key, instead=_INSTEAD_OF_LINK)
        detector = EyeDetector(file.read_bytes())
    return Framing(margin=settings.crop_margin, max_side_px=settings.max_side_px, detector=detector)


def finished_source(
    name: str, *, raw: Path, settings: Standardize, framing: Framing, workers: int
) -> Path:
    """Read a source, unless its bytes and params are those of the last run; check and log it.

    Raises:
        UserError: if it is missing, not watched by DVC, not laid out as its format says, without
            faces, or has more broken rows than `max_reject_share`. The finished folder stays, to
            look at its rejects.
    """
    start = time.perf_counter()
    source, key = settings.sources[name], f"standardize.sources.{name}.path"
    path = _below(raw, source.path, key=key)
    with open_tree(path, key=f"params.yaml: {key}") as tree:
        archive = tree.reader.path
        files = [archive] if archive else [Path(str(tree.place(name))) for name in tree.members]
        check_watched(path, dep=raw, files=files, key=key, instead=_INSTEAD_OF_LINK)
        fingerprint = _fingerprint(tree, source, settings=settings, framing=framing)
        folder = work_folder("standardize", name) / fingerprint
        reused = _is_finished(folder)
        if not reused:
            with published_folder(folder) as temporary:
                write_source(
                    temporary, tree, name=name, settings=settings, framing=framing, workers=workers
                )
            for other in {*folder.parent.iterdir()} - {folder}:
                remove(other)
    log_source(name, read_index(folder), seconds=None if reused else time.perf_counter() - start)
    check_source(folder, name=name, max_reject_share=settings.max_reject_share)
    return folder


def _fingerprint(tree: RawTree, source: Source, *, settings: Standardize, framing: Framing) -> str:
    """Hash all that a source folder depends on: other code or libraries may give other bytes."""
    paths = [path for pattern in _CODE for path in _PACKAGE.glob(pattern)]
    return sha256_json(
        {
            # As text: the same hash whatever line ends git has given the files.
            "code": {
                path.relative_to(_PACKAGE).as_posix(): path.read_text("utf-8") for path in paths
            },
            "classes": CLASSES,
            "not_a_class": NOT_A_CLASS,
            "libraries": {
                "opencv": cv2.__version__,
                "simplejpeg": simplejpeg.__version__,
                "pillow": PIL.__version__,
                "pyarrow": pa.__version__,
            },
            "source": source.model_dump(exclude={"licence"}),
            "crop_margin": framing.margin,
            "max_side_px": framing.max_side_px,
            "face_detector": None if framing.detector is None else framing.detector.sha256,
            "shard_mb": settings.shard_mb,
            "content": tree.content_sha256(),
        }
    )


def _is_finished(folder: Path) -> bool:
    """Tell if a source folder is there with rejects, sheets and all shards, byte for byte."""
    if not all((folder / name).exists() for name in COMPANIONS):
        return False
    try:
        shards = read_index(folder)["shards"]
    except UserError:
        return False
    for name, shard in shards.items():
        if sha256_file(folder / name) != shard["sha256"]:
            logger.warning("%s: damaged; the source is read again", folder / name)
            return False
    return True


def _below(raw: Path, path: str, *, key: str) -> Path:
    # A source's path stands in every face's `raw` column, which must hold no path of this machine.
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path or ":" in path:
        raise UserError(f"params.yaml: {key}: expected a path below `raw`, with /, got {path}")
    return raw / parts


def log_source(name: str, index: dict[str, Any], *, seconds: float | None) -> None:
    """Log faces, rejects and what is to be looked at; without seconds the source was reused."""
    faces = f"{index['faces']:,}"
    rejects = ", ".join(f"{why} {count:,}" for why, count in index["rejects"].items()) or "none"
    pace = f"{seconds:.1f} s, {index['rows'] / seconds:,.0f} rows/s" if seconds else ""
    logger.info("%s: %s faces; rejects: %s; %s", name, faces, rejects, pace or "unchanged, reused")
    for pixels, count in index["boxes_in_turned_photos"].items():
        if count:
            logger.warning(
                "%s: EXIF turns the photos of %s boxes, which are taken for boxes of the %s "
                "pixels; look at %r in sheet.png",
                *(name, f"{count:,}", pixels, TURNED),
            )
