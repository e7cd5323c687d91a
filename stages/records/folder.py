"""manifests/ as a stage further down reads it: the manifest, its gate views, names of sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.records.schema import read_manifest
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, sha256_file

MANIFEST_FILE = "classification_manifest.csv"
INDEX_FILE = "index.json"


@dataclass(frozen=True)
class ManifestFolder:
    """All rows, the rows of each gate view by its name, and what `index.json` says besides."""

    rows: pd.DataFrame
    sha256: str
    gates: Mapping[str, pd.DataFrame]
    source_groups: Mapping[str, Sequence[str]]


def read_folder(folder: Path) -> ManifestFolder:
    """Read the manifest and its gate views.

    Raises:
        UserError: if a file is missing, was changed since, or breaks the manifest's schema.
    """
    if not (folder / INDEX_FILE).is_file():
        raise UserError(f"{folder.name}/{INDEX_FILE}: no such file; `dvc repro manifest` makes it")
    index = read_json(folder / INDEX_FILE)
    files: Mapping[str, Mapping[str, object]] = index["files"]
    gates = [name for name, entry in sorted(files.items()) if entry["gate"]]
    for name in (MANIFEST_FILE, *gates):
        _check_hash(folder / name, expected=files[name]["sha256"])
    return ManifestFolder(
        rows=read_manifest(folder / MANIFEST_FILE),
        sha256=str(files[MANIFEST_FILE]["sha256"]),
        gates={Path(name).stem: read_manifest(folder / name) for name in gates},
        source_groups=index["source_groups"],
    )


def _check_hash(path: Path, *, expected: object) -> None:
    if not path.is_file():
        raise UserError(f"{path.parent.name}/{path.name}: no such file, and {INDEX_FILE} lists it")
    if (found := sha256_file(path)) != expected:
        raise UserError(
            f"{path.parent.name}/{path.name}: changed since it was written: expected SHA-256 "
            f"{expected}, got {found}; `dvc repro manifest` makes it again"
        )
