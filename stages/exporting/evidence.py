"""The manifest and the rows to label -> the real rows that an export is checked with."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from stages.config import Export
from stages.exporting.bundle import Bundle
from stages.exporting.held_out import HeldOut
from stages.exporting.seen import seen_ids
from stages.exporting.view import Preparation, spread
from stages.faces.decode import Image
from stages.records.folder import MANIFEST_FILE, read_folder
from stages.runtime.errors import UserError


@dataclass(frozen=True)
class Evidence:
    """Some faces, as model input (N, 3, S, S) and as pictures, and the rows held out.

    `seen` are the ids of rows that a teacher has learnt, of the whole manifest.
    """

    images: Tensor
    pictures: list[Image]
    held: HeldOut
    seen: frozenset[str]


def gather(
    manifests: Path, models: Path, bundle: Bundle, *, preparation: Preparation, settings: Export
) -> Evidence:
    """Test rows, or val rows where there are none, without those that a teacher was trained on.

    Raises:
        UserError: if there are none, an image is missing, or the teachers belong to another
            manifest.
    """
    manifest = read_folder(manifests)
    if manifest.sha256 != bundle.cards[0].manifest_sha256:
        raise UserError(
            f"{manifests.name}/{MANIFEST_FILE}: expected the teachers' manifest "
            f"{bundle.cards[0].manifest_sha256[:12]}…, got {manifest.sha256[:12]}…; "
            f"run `dvc repro {bundle.stage}`"
        )
    seen = seen_ids(models, bundle, manifest=manifest)
    split, rows = held_out_rows(manifest.rows, seen=seen)
    held = spread(rows, settings.accuracy_rows)
    faces = preparation.faces(spread(rows, settings.parity_rows))
    return Evidence(
        images=torch.cat(list(faces.batches())),
        pictures=faces.pictures(),
        held=HeldOut(split, held, preparation.faces(held)),
        seen=seen,
    )


def held_out_rows(manifest: pd.DataFrame, *, seen: frozenset[str]) -> tuple[str, pd.DataFrame]:
    """The rows of test, or of val where test has none, whose ids are not among `seen`.

    Raises:
        UserError: if there are neither.
    """
    unseen = manifest[~manifest["id"].isin(seen)]
    for split in ("test", "val"):
        if len(rows := unseen[unseen["split"] == split]):
            return split, rows
    raise UserError(f"manifests/{MANIFEST_FILE}: expected test or val rows to check with, got none")
