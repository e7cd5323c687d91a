"""manifests/ -> the manifest, its gate views and names of sources, as later stages read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pandas as pd

from stages.config import CLASSES, Filter
from stages.records.schema import read_manifest
from stages.records.views import admit
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, sha256_file

MANIFEST_FILE = "classification_manifest.csv"
INDEX_FILE = "index.json"
# Columns of logits.parquet, one a class, beside `id` and `seen`.
LOGIT_COLUMNS = tuple(f"logit_{name.lower()}" for name in CLASSES)


@dataclass(frozen=True)
class ManifestFolder:
    """The manifest's rows and SHA-256, the rows of each gate view by its name, source groups."""

    rows: pd.DataFrame
    sha256: str
    gates: Mapping[str, pd.DataFrame]
    source_groups: Mapping[str, Sequence[str]]

    @property
    def scored(self) -> pd.Index:
        """Ids of the rows whose logits every teacher publishes: val, test and gate rows."""
        gate_ids = chain(*(gate["id"] for gate in self.gates.values()))
        is_scored = (self.rows["split"] != "train") | self.rows["id"].isin([*gate_ids])
        ids: pd.Index = pd.Index(self.rows.loc[is_scored, "id"])
        return ids

    def admitted(self, rows: Filter, *, key: str) -> pd.DataFrame:
        """Select the rows that a stage's filter admits (see `views.admit`)."""
        return admit(self.rows, rows, key=key, source_groups=self.source_groups)


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
        check_hash(folder / name, expected=files[name]["sha256"])
    return ManifestFolder(
        rows=read_manifest(folder / MANIFEST_FILE),
        sha256=str(files[MANIFEST_FILE]["sha256"]),
        gates={Path(name).stem: read_manifest(folder / name) for name in gates},
        source_groups=index["source_groups"],
    )


def check_hash(path: Path, *, expected: object) -> None:
    """Refuse a file of manifests/ that is missing or was changed since it was written."""
    if not path.is_file():
        raise UserError(f"{path.parent.name}/{path.name}: no such file, and {INDEX_FILE} lists it")
    if (found := sha256_file(path)) != expected:
        raise UserError(
            f"{path.parent.name}/{path.name}: changed since it was written: expected SHA-256 "
            f"{expected}, got {found}; `dvc repro manifest` makes it again"
        )
