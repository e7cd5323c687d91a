"""A dataset as it was downloaded -> its faces in a folder, and its test rows as in a manifest."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from stages.config import PlainSource, Source, Standardize
from stages.intake.intake import check_source, write_source
from stages.intake.reuse import read_framing
from stages.records.schema import COLUMNS, SPLITS
from stages.runtime.errors import UserError, did_you_mean
from stages.sources.tree import open_tree
from stages.splitting.frozen import manifest_rows, read_all_faces

# What a format asks for besides its path. It changes no test row: they go by majority, and ExpW's
# confidence only divides them in two sources.
_ASKED: Mapping[str, Mapping[str, Any]] = {
    "ferplus": {"label_rule": "majority"},
    "folder7": {},
    "expw": {"hq_confidence": 0.0},
    **{name: {} for name in get_args(PlainSource.model_fields["format"].annotation)},
}
FORMATS = tuple(sorted(_ASKED))

logger = logging.getLogger(__name__)


def read_raw_rows(
    path: Path,
    *,
    layout: str,
    class_folders: Mapping[str, str],
    settings: Standardize,
    raw: Path,
    standardized: Path,
    workers: int,
) -> pd.DataFrame:
    """Cut the faces of a raw dataset into `standardized`, and return its test rows.

    Of a dataset that has no splits, such as ExpW, all rows are test rows. Faces are cut as
    `settings` say; a detector lies below `raw`. `class_folders` is for `folder7`.

    Raises:
        UserError: if the path is missing, not laid out as the format says, or has no test rows.
    """
    if layout not in FORMATS:
        hint = did_you_mean(layout, FORMATS) or f"known: {', '.join(FORMATS)}"
        raise UserError(f"--format: {layout!r} is no layout; {hint}")
    if class_folders and layout != "folder7":
        raise UserError(f"--class-folder: only folder7 has class folders, got {layout}")
    asked: dict[str, Any] = {"format": layout, "path": path.name, **_ASKED[layout]}
    if class_folders:
        asked["class_folders"] = dict(class_folders)
    try:
        source: Source = TypeAdapter[Source](Source).validate_python(asked)
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"--class-folder: {problem['msg']}, got {problem['input']!r}") from None
    settings = settings.model_copy(update={"sources": {layout: source}})
    framing, folder = read_framing(settings, raw=raw), standardized / layout
    folder.mkdir(parents=True)
    with open_tree(path, key="--raw") as tree:
        write_source(folder, tree, name=layout, settings=settings, framing=framing, workers=workers)
    check_source(folder, name=layout, max_reject_share=settings.max_reject_share)
    rows = manifest_rows(read_all_faces(standardized))
    official = rows["split"]
    counts = ", ".join(f"{split} {(official == split).sum():,}" for split in SPLITS)
    logger.info("%s: %s faces: %s", path.name, f"{len(rows):,}", counts)
    if official.notna().any():
        rows = rows[official == "test"]
    if rows.empty:
        raise UserError(f"--raw: {path.name}: expected test rows, got none: {counts}")
    rows = rows.assign(official=rows["split"], split="test", twin_splits="", group=rows["photo"])
    return rows[list(COLUMNS)].reset_index(drop=True)
