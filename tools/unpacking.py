"""Rows of the manifest and their pictures -> `<split>/<class>/<file>` and `index.csv` in a folder.

A file is called by its face's id, in names that hold on Linux, macOS and Windows; its bytes are
those of the shard. No other program needs anything of this project to read the result.
"""

import hashlib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from stages.config import CLASSES
from stages.faces.shards import read_faces
from stages.records.folder import INDEX_FILE, check_hash, read_folder
from stages.records.schema import COLUMNS, read_manifest
from stages.runtime.errors import UserError, did_you_mean
from stages.runtime.files import published_folder, read_json, write_csv
from stages.runtime.workers import with_progress

INDEX = "index.csv"
INDEX_COLUMNS = ["file", "id", "source", "split", "label", "sha256"]
MAX_STEM_BYTES = 100

_SUFFIXES = {
    b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"GIF8": ".gif", b"BM": ".bmp",
    b"II*\0": ".tif", b"MM\0*": ".tif", b"P2": ".pgm", b"P5": ".pgm", b"P3": ".ppm", b"P6": ".ppm",
}  # fmt: skip
_OTHER_SUFFIX = ".image"
# Suffixes that torchvision's ImageFolder passes over without a word.
_PASSED_OVER = (".gif", _OTHER_SUFFIX)
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³]) *", re.IGNORECASE
)
_HASH_DIGITS = 8
_LISTED_IDS = 5

logger = logging.getLogger(__name__)


def rows_named(folder: Path, name: str) -> pd.DataFrame:
    """Return the rows of manifests/ that a name stands for: a source, a group or a view.

    Raises:
        UserError: if the folder is not whole, nothing has that name, or a view has the name of a
            source or group but other rows.
    """
    manifest = read_folder(folder)
    views = _view_files(folder)
    known_sources = set(manifest.rows["source"])
    sources = [name] if name in known_sources else manifest.source_groups.get(name, [])
    if absent := sorted(set(sources) - known_sources):
        known = sorted(known_sources)
        raise UserError(f"source group {name!r}: no rows of {absent}; known: {known}")
    if not sources and name not in views:
        known = sorted({*known_sources, *manifest.source_groups, *views})
        hint = did_you_mean(name, known)
        message = f"no source, source group or view {name!r}; known: {known}"
        raise UserError(f"{message}; {hint}" if hint else message)
    of_sources = manifest.rows[manifest.rows["source"].isin(sources)]
    if name not in views:
        return of_sources
    check_hash(folder / f"{name}.csv", expected=views[name])
    rows = read_manifest(folder / f"{name}.csv")
    if sources and set(of_sources["id"]) != set(rows["id"]):
        raise UserError(
            f"{name!r} names {len(of_sources)} rows of {' + '.join(sources)} and a view of "
            f"{len(rows)}, not the same; give the view another name in params.yaml"
        )
    return rows


def require_vacant(out: Path) -> None:
    """Refuse with a `UserError` a place that is neither absent nor an empty folder."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"{out}: expected a new or an empty folder, got something else")
    if out.is_dir() and (first := next(out.iterdir(), None)) is not None:
        raise UserError(f"{out}: expected a new or an empty folder, found {first.name} in it")


def require_same_pictures(rows: pd.DataFrame, *, standardized: Path) -> None:
    """Refuse in one `UserError` all rows whose picture has changed since the manifest was made."""
    pixels = read_faces(standardized, ("id", "sha256")).set_index("id")["sha256"]
    changed = rows.loc[rows["id"].map(pixels) != rows["sha256"], "id"]
    if len(changed):
        raise UserError(
            f"{standardized.name}/: {len(changed)} of {len(rows)} manifest rows have another "
            f"picture than when the manifest was made, such as "
            f"{', '.join(changed.head(_LISTED_IDS))}; run the manifest stage"
        )


def unpack(out: Path, rows: pd.DataFrame, *, images: Iterable[memoryview]) -> None:
    """Write the encoded image of each row, and `index.csv`; `out` appears whole or not at all.

    Every split has a folder for each of the seven classes, so that all number them alike. What
    torchvision's ImageFolder refuses or passes over is logged.

    Raises:
        UserError: if `out` is not vacant when all is written.
    """
    places = rows["split"] + "/" + rows["label"]
    files, hashes = [], []
    with published_folder(out) as folder:
        for split in rows["split"].unique():
            for label in CLASSES:
                (folder / split / label).mkdir(parents=True)
        written = with_progress(images, name=out.name)
        for place, stem, image in zip(places, file_stems(rows), written, strict=True):
            files.append(f"{place}/{stem}{suffix_of(image)}")
            hashes.append(hashlib.sha256(image).hexdigest())
            # Never over another file, whatever a file system takes for the same name.
            with (folder / files[-1]).open("xb") as file:
                file.write(image)
        write_csv(folder / INDEX, rows.assign(file=files, sha256=hashes)[INDEX_COLUMNS])
        require_vacant(out)
    for split, labels in rows.groupby("split")["label"]:
        if empty := [name for name in CLASSES if name not in set(labels)]:
            logger.warning(
                "%s: no images of %s; ImageFolder wants allow_empty=True", split, ", ".join(empty)
            )
    suffixes = Counter(PurePosixPath(file).suffix for file in files)
    if passed_over := {name: suffixes[name] for name in _PASSED_OVER if suffixes[name]}:
        logger.warning("ImageFolder passes over files of these suffixes: %s", passed_over)


def file_stems(rows: pd.DataFrame) -> list[str]:
    """Return a file name without suffix for each row, unique within a split's class folder.

    It is the id without its source, made safe. Names that differ by letter case alone, and names
    that are cut to `MAX_STEM_BYTES`, get a hash of their id: no name depends on the order of rows.
    """
    plain = [_safe(id_.partition("/")[2]) for id_ in rows["id"]]
    folded = [unicodedata.normalize("NFC", stem.casefold()) for stem in plain]
    places = zip(rows["split"], rows["label"], folded, strict=True)
    shared = pd.Series(list(places), dtype="object").duplicated(keep=False)
    stems = []
    for stem, id_, clash in zip(plain, rows["id"], shared, strict=True):
        if clash or len(stem.encode()) > MAX_STEM_BYTES:
            # `ignore` drops a character that the cut goes through.
            kept = stem.encode()[: MAX_STEM_BYTES - _HASH_DIGITS - 1].decode(errors="ignore")
            stem = f"{kept}-{hashlib.sha256(id_.encode()).hexdigest()[:_HASH_DIGITS]}"
        stems.append(stem)
    return stems


def suffix_of(image: bytes | memoryview) -> str:
    """Return the suffix of an encoded image by its first bytes, `.image` if unknown."""
    head = bytes(image[:12])
    if head.startswith(b"RIFF") and head.endswith(b"WEBP"):
        return ".webp"
    known = (suffix for magic, suffix in _SUFFIXES.items() if head.startswith(magic))
    return next(known, _OTHER_SUFFIX)


def _view_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 by name of all files of rows; other tables have other columns."""
    hashes = {}
    for name, entry in read_json(folder / INDEX_FILE)["files"].items():
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                if file.readline().rstrip() != ",".join(COLUMNS).encode():
                    continue
        hashes[path.stem] = entry["sha256"]
    return hashes


def _safe(text: str) -> str:
    """Return a name that no system reserves, cuts or hides."""
    stem = _UNSAFE.sub("_", text).strip(" .") or "_"
    # Windows takes `con.1.png` for the device, too.
    return f"_{stem}" if _DEVICE.fullmatch(stem.partition(".")[0]) else stem
