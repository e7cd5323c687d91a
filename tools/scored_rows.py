"""The rows to score a model on: those of a manifest, or the test rows of a raw dataset."""

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from stages.config import Params, PlainSource, Source, Standardize
from stages.faces.shards import read_index
from stages.intake.intake import check_source, write_source
from stages.intake.reuse import log_source, read_framing
from stages.records.schema import COLUMNS, SPLITS, read_manifest
from stages.runtime.errors import UserError, did_you_mean
from stages.runtime.machine import num_threads
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


class Asked(NamedTuple):
    """Rows to score a model on, as a manifest has them; their faces lie in `standardized`."""

    name: str
    rows: pd.DataFrame
    standardized: Path


@contextmanager
def asked_rows(
    *,
    rows: Path | None,
    standardized: Path | None,
    raw: Path | None,
    layout: str | None,
    class_folders: Sequence[str],
    params: Params,
) -> Iterator[Asked | None]:
    """Read what the command line asks for, None if it asks for nothing; cut faces last inside.

    `class_folders` are texts like `0=Angry`.

    Raises:
        UserError: for options that exclude each other, and rows that cannot be read.
    """
    if (raw is None) != (layout is None):
        raise UserError(f"--raw and --format go together; known formats: {', '.join(FORMATS)}")
    if raw is None or layout is None:
        if class_folders:
            raise UserError("--class-folder: is for --raw with --format folder7")
        faces = standardized or Path("standardized")
        yield None if rows is None else Asked(rows.stem, _read_rows(rows), faces)
        return
    for name, value in {"--rows": rows, "--standardized": standardized}.items():
        if value is not None:
            raise UserError(f"{name} and --raw exclude each other; choose one")
    for text in class_folders:
        if "=" not in text:
            raise UserError(f"--class-folder: expected FOLDER=CLASS, got {text!r}")
    name = raw.resolve().stem
    with tempfile.TemporaryDirectory() as temporary:
        found = _read_raw_rows(
            raw,
            layout=layout,
            class_folders=dict(text.partition("=")[::2] for text in class_folders),
            settings=params.standardize,
            raw=Path(params.raw),
            standardized=Path(temporary),
            workers=num_threads(params.machine.workers),
        )
        yield Asked(name, found, Path(temporary))


def _read_rows(path: Path) -> pd.DataFrame:
    rows = read_manifest(path)
    if rows.empty:
        raise UserError(f"{path.name}: expected rows, got none")
    return rows


def _read_raw_rows(
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
    `settings` say; a detector lies below `raw`.
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
    start = time.perf_counter()
    with open_tree(path, key="--raw") as tree:
        write_source(folder, tree, name=layout, settings=settings, framing=framing, workers=workers)
    log_source(path.name, read_index(folder), seconds=time.perf_counter() - start)
    check_source(folder, name=layout, max_reject_share=settings.max_reject_share, is_kept=False)
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
