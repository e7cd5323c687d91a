"""A source's finished folder in `.work/standardize/<source>/<fingerprint>`: found there, or made.

The fingerprint names all that a face depends on, this code included: DVC runs the stage again after
a change of it, and would then publish what the old code has left.

Only the newest fingerprint of a source is kept: an older recipe comes back from DVC's run cache,
and the disk holds no third copy.
"""

import hashlib
import logging
import time
from pathlib import Path, PurePosixPath

import cv2
import PIL
import pyarrow as pa
import simplejpeg

from stages.config import CLASSES, NOT_A_CLASS, Standardize
from stages.faces.shards import INDEX, read_index
from stages.intake.align import EyeDetector
from stages.intake.intake import COMPANIONS, TURNED, check_source, write_source
from stages.intake.pictures import Framing
from stages.runtime.errors import UserError
from stages.runtime.files import published_folder, remove, sha256_file, sha256_json, work_folder
from stages.runtime.watched import check_watched
from stages.sources.tree import RawTree, open_tree

_PACKAGE = Path(__file__).resolve().parents[1]
# What decides over the bytes of a source folder, below the package.
_CODE = ("sources/*.py", "intake/*.py", "faces/*.py", "runtime/tables.py")
_DETECTOR_KEY = "standardize.face_detector"
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
    detector = None
    if settings.face_detector is not None:
        file = _below(raw, settings.face_detector, key=_DETECTOR_KEY)
        if not file.is_file():
            raise UserError(
                f"params.yaml: {_DETECTOR_KEY}: expected an ONNX file, found none: {file}"
            )
        check_watched(file, dep=raw, files=[file], key=_DETECTOR_KEY, instead=_INSTEAD_OF_LINK)
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
    with open_tree(path, key=key) as tree:
        check_watched(path, dep=raw, files=_files(tree), key=key, instead=_INSTEAD_OF_LINK)
        fingerprint = source_fingerprint(name, tree, settings=settings, framing=framing)
        folder = work_folder("standardize", name) / fingerprint
        reused = is_finished(folder)
        if not reused:
            with published_folder(folder) as temporary:
                write_source(
                    temporary,
                    tree,
                    name=name,
                    source=source,
                    framing=framing,
                    shard_mb=settings.shard_mb,
                    workers=workers,
                )
            for other in folder.parent.iterdir():
                if other != folder:
                    remove(other)
    _log(name, folder, reused=reused, seconds=time.perf_counter() - start)
    check_source(folder, name=name, max_reject_share=settings.max_reject_share)
    return folder


def source_fingerprint(name: str, tree: RawTree, *, settings: Standardize, framing: Framing) -> str:
    """Hash all that a source folder depends on (SHA-256).

    The code that reads, and the libraries that decode and write, are part of it: another version
    may give other bytes.
    """
    return sha256_json(
        {
            "code": code_sha256(_PACKAGE),
            "classes": CLASSES,
            "not_a_class": NOT_A_CLASS,
            "libraries": {
                "opencv": cv2.__version__,
                "simplejpeg": simplejpeg.__version__,
                "pillow": PIL.__version__,
                "pyarrow": pa.__version__,
            },
            "source": settings.sources[name].model_dump(exclude={"licence"}),
            "crop_margin": framing.margin,
            "max_side_px": framing.max_side_px,
            "face_detector": None if framing.detector is None else framing.detector.sha256,
            "shard_mb": settings.shard_mb,
            "content": tree.content_sha256(),
        }
    )


def code_sha256(package: Path) -> str:
    """Hash the files of a package that make faces of raw rows (SHA-256).

    A checkout on Windows, with its own line ends, gives the same hash.
    """
    paths = [path for pattern in _CODE for path in package.glob(pattern)]
    return sha256_json(
        {
            path.relative_to(package).as_posix(): hashlib.sha256(
                path.read_bytes().replace(b"\r\n", b"\n")
            ).hexdigest()
            for path in paths
        }
    )


def is_finished(folder: Path) -> bool:
    """Whether a source folder is there with rejects, sheets and all shards, byte for byte."""
    if not all((folder / name).exists() for name in (INDEX, *COMPANIONS)):
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


def _files(tree: RawTree) -> list[str | Path]:
    """List the paths of all files that are read."""
    if tree.reader.path is not None:
        return [tree.reader.path]
    return [str(tree.place(member)) for member in tree.members]


def _log(name: str, folder: Path, *, reused: bool, seconds: float) -> None:
    index = read_index(folder)
    counts = [f"{reason} {count:,}" for reason, count in index["rejects"].items()]
    pace = f"{seconds:.1f} s, {index['rows'] / seconds:,.0f} rows/s"
    logger.info(
        "%s: %s faces; rejects: %s; %s",
        name,
        f"{index['faces']:,}",
        ", ".join(counts) or "none",
        "unchanged, reused" if reused else pace,
    )
    for pixels, count in index["boxes_in_turned_photos"].items():
        if count:
            logger.warning(
                "%s: EXIF turns the photos of %s boxes, which are taken for boxes of the %s "
                "pixels; look at %r in sheet.png",
                name,
                f"{count:,}",
                pixels,
                TURNED,
            )
