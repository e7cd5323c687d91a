"""manifests/ -> the manifest, its gate views and names of sources, as later stages read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    def gate_ids(self) -> set[str]:
        """Ids of the rows of all gate views."""
        return {id_ for gate in self.gates.values() for id_ in gate["id"]}

    @property
    def scored(self) -> pd.Index:
        """Ids of the rows whose logits every teacher publishes: val, test and gate rows."""
        is_scored = (self.rows["split"] != "train") | self.rows["id"].isin(self.gate_ids)
        ids: pd.Index = pd.Index(self.rows.loc[is_scored, "id"])
        return ids

    def admitted(self, rows: Filter, *, key: str) -> pd.DataFrame:
        """Select the rows that a stage's filter admits (see `views.admit`).

        Raises:
            UserError: if a name of the filter matches no row.
        """
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
        place = f"{folder.name}/{name}"
        if not (folder / name).is_file():
            raise UserError(f"{place}: no such file, and {INDEX_FILE} lists it")
        expected, got = files[name]["sha256"], sha256_file(folder / name)
        if got != expected:
            raise UserError(
                f"{place}: changed since it was written: expected SHA-256 {expected}, got {got}; "
                "`dvc repro manifest` makes it again"
            )
    return ManifestFolder(
        rows=read_manifest(folder / MANIFEST_FILE),
        sha256=str(files[MANIFEST_FILE]["sha256"]),
        gates={Path(name).stem: read_manifest(folder / name) for name in gates},
        source_groups=index["source_groups"],
    )
