"""Rows of the manifest and their pictures -> `<split>/<class>/<file>` and `index.csv` in a folder.

A file is called by its face's id, in names that hold on Linux, macOS and Windows; its bytes are
those of the shard. No other program needs anything of this project to read the result.
"""

import difflib
import hashlib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from stages.config import CLASSES
from stages.faces.shards import read_faces
from stages.records.folder import INDEX_FILE, ManifestFolder, read_folder
from stages.records.schema import COLUMNS, read_manifest
from stages.runtime.errors import UserError
from stages.runtime.files import published_folder, read_json, sha256_file
from stages.runtime.progress import with_progress
from stages.runtime.tables import write_csv

INDEX = "index.csv"
INDEX_COLUMNS = ("file", "id", "source", "split", "label", "sha256")
MAX_STEM_BYTES = 100

_SUFFIXES = {
    b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"GIF8": ".gif", b"BM": ".bmp",
    b"II*\0": ".tif", b"MM\0*": ".tif", b"P2": ".pgm", b"P5": ".pgm", b"P3": ".ppm", b"P6": ".ppm",
}  # fmt: skip
_OTHER_SUFFIX = ".image"
# Of the suffixes given here, those that torchvision's ImageFolder passes over without a word.
_PASSED_OVER = (".gif", _OTHER_SUFFIX)
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³]) *", re.IGNORECASE
)
_HASH_DIGITS = 8
_LISTED_IDS = 5

logger = logging.getLogger(__name__)


def rows_named(folder: Path, name: str) -> pd.DataFrame:
    """The rows of manifests/ that a name stands for: a source, a group of sources or a view.

    Raises:
        UserError: if the folder is not whole, nothing has that name, or a view has the name of a
            source or group but other rows.
    """
    manifest = read_folder(folder)
    views = _view_files(folder)
    sources = _sources_named(manifest, name)
    if not sources and name not in views:
        names = {*manifest.rows["source"], *manifest.source_groups, *views}
        raise _unknown(name, known=sorted(names))
    found = [manifest.rows[manifest.rows["source"].isin(sources)]] if sources else []
    if name in views:
        found.append(_read_view(folder / f"{name}.csv", expected=views[name]))
    if set(found[0]["id"]) != set(found[-1]["id"]):
        raise UserError(
            f"{name!r} names {len(found[0])} rows of {' + '.join(sources)} and a view of "
            f"{len(found[-1])}, not the same; give the view another name in params.yaml"
        )
    return found[-1]


def require_vacant(out: Path) -> None:
    """Refuse a place where something is already.

    Raises:
        UserError: if `out` is anything but absent or an empty folder.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"{out}: expected a new or an empty folder, got something else")
    if out.is_dir() and (first := next(out.iterdir(), None)) is not None:
        raise UserError(f"{out}: expected a new or an empty folder, found {first.name} in it")


def require_same_pictures(rows: pd.DataFrame, *, standardized: Path) -> None:
    """Refuse rows whose picture was another one when the manifest was made.

    Raises:
        UserError: for all such rows at once, counted, with the first ids.
    """
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

    Every split has a folder for each of the seven classes, so that all number them alike. `sha256`
    of the index is that of the file.

    Raises:
        UserError: if `out` is not vacant.
    """
    require_vacant(out)
    stems = file_stems(rows)
    places = rows["split"] + "/" + rows["label"]
    files, hashes = [], []
    with published_folder(out) as folder:
        _make_class_folders(folder, rows)
        written = with_progress(images, name=out.name)
        for place, stem, image in zip(places, stems, written, strict=True):
            files.append(f"{place}/{stem}{suffix_of(image)}")
            hashes.append(hashlib.sha256(image).hexdigest())
            # Never over another file, whatever a file system takes for the same name.
            with (folder / files[-1]).open("xb") as file:
                file.write(image)
        index = rows.assign(file=files, sha256=hashes)[list(INDEX_COLUMNS)]
        write_csv(folder / INDEX, index)
        require_vacant(out)
    _warn(rows, files)


def file_stems(rows: pd.DataFrame) -> list[str]:
    """File names without suffix, one for each row: different within a split's class folder.

    The id without its source, made safe. Names that would be equal where letter case does not
    count, and those that are cut to `MAX_STEM_BYTES`, all get a hash of their id: no name depends
    on the order of rows.
    """
    plain = [_safe(id_.partition("/")[2]) for id_ in rows["id"]]
    folded = [unicodedata.normalize("NFC", stem.casefold()) for stem in plain]
    places = zip(rows["split"], rows["label"], folded, strict=True)
    shared = pd.Series(list(places), dtype="object").duplicated(keep=False)
    return [
        _hashed(stem, id_) if clash or len(stem.encode()) > MAX_STEM_BYTES else stem
        for stem, id_, clash in zip(plain, rows["id"], shared, strict=True)
    ]


def suffix_of(image: bytes | memoryview) -> str:
    """The suffix that an encoded image should have, by its first bytes; `.image` if unknown."""
    head = bytes(image[:12])
    if head.startswith(b"RIFF") and head.endswith(b"WEBP"):
        return ".webp"
    known = (suffix for magic, suffix in _SUFFIXES.items() if head.startswith(magic))
    return next(known, _OTHER_SUFFIX)


def _sources_named(manifest: ManifestFolder, name: str) -> Sequence[str]:
    """The sources meant by a name; none if it is neither a source's nor a group's."""
    sources = set(manifest.rows["source"])
    if name in sources:
        return [name]
    members = manifest.source_groups.get(name, [])
    if absent := sorted(set(members) - sources):
        raise UserError(f"source group {name!r}: no rows of {absent}; known: {sorted(sources)}")
    return members


def _view_files(folder: Path) -> dict[str, str]:
    """SHA-256 by name of all files of rows; other tables have other columns."""
    files = read_json(folder / INDEX_FILE)["files"]
    return {
        Path(name).stem: entry["sha256"]
        for name, entry in files.items()
        if not (folder / name).is_file() or _holds_rows(folder / name)
    }


def _holds_rows(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().rstrip() == ",".join(COLUMNS).encode()


def _read_view(path: Path, *, expected: str) -> pd.DataFrame:
    rows = read_manifest(path)
    if (found := sha256_file(path)) != expected:
        raise UserError(
            f"{path.parent.name}/{path.name}: changed since it was written: expected SHA-256 "
            f"{expected}, got {found}; `dvc repro manifest` makes it again"
        )
    return rows


def _unknown(name: str, *, known: Sequence[str]) -> UserError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"no source, source group or view {name!r}; known: {list(known)}{hint}")


def _safe(text: str) -> str:
    """Text as a name that no system reserves, cuts or hides."""
    stem = _UNSAFE.sub("_", text).strip(" .") or "_"
    # Windows takes `con.1.png` for the device, too.
    return f"_{stem}" if _DEVICE.fullmatch(stem.partition(".")[0]) else stem


def _hashed(stem: str, id_: str) -> str:
    # A character that the cut goes through is left out.
    kept = stem.encode()[: MAX_STEM_BYTES - _HASH_DIGITS - 1].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(id_.encode()).hexdigest()[:_HASH_DIGITS]}"


def _make_class_folders(folder: Path, rows: pd.DataFrame) -> None:
    for split in rows["split"].unique():
        for label in CLASSES:
            (folder / split / label).mkdir(parents=True)


def _warn(rows: pd.DataFrame, files: Sequence[str]) -> None:
    """Say what torchvision's ImageFolder will stumble over or pass over."""
    for split, labels in rows.groupby("split")["label"]:
        if empty := [name for name in CLASSES if name not in set(labels)]:
            logger.warning(
                "%s: no images of %s; ImageFolder wants allow_empty=True", split, ", ".join(empty)
            )
    suffixes = Counter(PurePosixPath(file).suffix for file in files)
    if passed_over := {name: suffixes[name] for name in _PASSED_OVER if suffixes[name]}:
        logger.warning("ImageFolder passes over files of these suffixes: %s", passed_over)
