"""models/ and the manifest -> the rows that the exported teachers have learnt."""

from pathlib import Path

import pandas as pd

from stages.calibrating.stage_rows import find_past
from stages.exporting.bundle import Bundle
from stages.records.folder import ManifestFolder
from stages.runtime.errors import UserError


def seen_ids(models: Path, bundle: Bundle, *, manifest: ManifestFolder) -> frozenset[str]:
    """Ids of rows that some teacher was trained on, or that share a group with such a row.

    In its stage or in the one that it started from. Of val, test and gate rows `logits.parquet`
    says so itself; of all others the filters tell by which training chose its rows.

    Raises:
        UserError: if a teacher started from weights of another manifest.
    """
    past = find_past(
        [card.weights_sha256 for card in bundle.cards], models=models, manifest=manifest
    )
    if past.unknown:
        raise UserError(
            f"models/: which rows the teachers have learnt is not known: {past.unknown}; "
            f"run `dvc repro {bundle.stage}`"
        )
    tables = [
        pd.read_parquet(models / bundle.stage / name / "logits.parquet", columns=["id", "seen"])
        for name in bundle.members
    ]
    return past.trained.ids.union(*(table["id"][table["seen"]] for table in tables))
