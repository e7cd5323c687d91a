"""The frozen manifest -> the folder of CSVs with their hashes."""

from pathlib import Path
from typing import TypedDict

import pandas as pd

from stages.config import Manifest
from stages.records.schema import write_manifest
from stages.runtime.files import published_folder, write_json
from stages.runtime.tables import write_csv
from stages.splitting.frozen import MANIFEST_NAME, FrozenManifest


class FileEntry(TypedDict):
    """What `index.json` says of a CSV; `gate` marks a view scored beside the in-domain rows."""

    sha256: str
    rows: int
    gate: bool


def publish(
    target: Path, frozen: FrozenManifest, *, warnings: pd.DataFrame, section: Manifest
) -> dict[str, FileEntry]:
    """Write all CSVs and `index.json`; `target` is replaced whole, at the end, or not at all.

    Returns:
        The entry of each CSV, by file name.
    """
    entries: dict[str, FileEntry] = {}
    tables = {
        "excluded": frozen.excluded,
        "duplicates": frozen.duplicates,
        "review": frozen.review,
        "warnings": warnings,
    }
    with published_folder(target) as folder:
        for name, rows in {MANIFEST_NAME: frozen.rows, **frozen.views}.items():
            gate = name in section.views and section.views[name].gate
            digest = write_manifest(folder / f"{name}.csv", rows)
            entries[f"{name}.csv"] = {"sha256": digest, "rows": len(rows), "gate": gate}
        for name, table in tables.items():
            digest = write_csv(folder / f"{name}.csv", table)
            entries[f"{name}.csv"] = {"sha256": digest, "rows": len(table), "gate": False}
        groups = {name: list(members) for name, members in section.source_groups.items()}
        write_json(folder / "index.json", {"source_groups": groups, "files": entries})
    return entries
