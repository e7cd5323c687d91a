"""Faces <-> `standardized/<source>/faces-*.arrow` and `index.json`.

A shard is an uncompressed Arrow IPC file (`pandas.read_feather` opens it) in small record batches,
so that a memory map reaches any single image without reading its neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa

from stages.config import CLASSES
from stages.faces.fingerprint import THUMBNAIL_SIDE
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, sha256_file, sync, write_json

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("native_px", pa.int32(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("votes", pa.list_(pa.float32(), len(CLASSES))),
        pa.field("split", pa.string()),
        pa.field("photo", pa.string(), nullable=False),
        pa.field("confidence", pa.float32()),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("dhash", pa.uint64(), nullable=False),
        pa.field("thumbnail", pa.binary(THUMBNAIL_SIDE**2), nullable=False),
        pa.field("crop", pa.string(), nullable=False),
        pa.field("raw", pa.string(), nullable=False),
    ]
)
INDEX = "index.json"
BATCH_ROWS = 256
BATCH_BYTES = 32 << 20
REMEDY = "run the standardize stage"


@dataclass(frozen=True)
class Face:
    """One row of a shard; the fields are the columns of `SCHEMA`, in its order."""

    id: str
    image: bytes
    width: int
    height: int
    native_px: int
    label: str
    votes: tuple[float, ...] | None
    split: str | None
    photo: str
    confidence: float | None
    sha256: str
    dhash: int
    thumbnail: bytes
    crop: str
    raw: str


class ShardWriter:
    """Writes faces into shards and, at the end of a `with` block that succeeds, `index.json`.

    The same faces in the same order give the same bytes. No batch takes a shard over `shard_mb`.
    """

    def __init__(self, folder: Path, *, shard_mb: int) -> None:
        self._folder, self._limit = folder, shard_mb << 20
        self._faces: list[Face] = []
        self._pending_bytes = 0
        self._shard: pa.RecordBatchFileWriter | None = None
        self._shard_bytes = self._shard_rows = 0
        self._shards: dict[str, dict[str, Any]] = {}
        self._facts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def add(self, face: Face) -> None:
        """Append a face."""
        self._faces.append(face)
        self._pending_bytes += len(face.image)
        if len(self._faces) == BATCH_ROWS or self._pending_bytes >= BATCH_BYTES:
            self._write_batch()

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add facts to `index.json`, beside those of shards and faces."""
        self._facts.update(facts)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write_batch()
        self._close_shard()
        if kind is None:
            num_faces = sum(shard["rows"] for shard in self._shards.values())
            counted = {"shards": self._shards, "faces": num_faces}
            write_json(self._folder / INDEX, counted | self._facts)

    def _write_batch(self) -> None:
        if not self._faces:
            return
        batch = pa.RecordBatch.from_pylist([vars(face) for face in self._faces], schema=SCHEMA)
        if self._shard_bytes + batch.nbytes > self._limit:
            self._close_shard()
        if self._shard is None:
            self._shard = pa.ipc.new_file(self._path(), SCHEMA)
        self._shard.write_batch(batch)
        self._shard_bytes += batch.nbytes
        self._shard_rows += batch.num_rows
        self._faces, self._pending_bytes = [], 0

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shard.close()
            path = self._path()
            # A power cut must not leave the index beside a shard that it belies.
            sync(path)
            self._shards[path.name] = {"sha256": sha256_file(path), "rows": self._shard_rows}
        self._shard, self._shard_bytes, self._shard_rows = None, 0, 0

    def _path(self) -> Path:
        return self._folder / f"faces-{len(self._shards):05d}.arrow"


def read_index(folder: Path) -> dict[str, Any]:
    """Read a source folder's `index.json`: `{"shards": {name: {"sha256", "rows"}}, "faces": n}`.

    Beside them stand the facts that standardize notes (see `intake.write_source`).

    Raises:
        UserError: if it or one of its shards is missing, or it is no JSON.
    """
    if not (folder / INDEX).exists():
        raise UserError(f"{folder.name}/{INDEX}: missing; {REMEDY}")
    try:
        index: dict[str, Any] = read_json(folder / INDEX)
    except ValueError as error:
        raise UserError(f"{folder.name}/{INDEX}: damaged: {error}; {REMEDY}") from None
    for name in index["shards"]:
        if not (folder / name).exists():
            raise UserError(f"{folder.name}/{name}: missing, but {INDEX} lists it; {REMEDY}")
    return index


def source_folders(standardized: Path) -> list[Path]:
    """List the folders of all sources, by name; if there is none, raise a `UserError`."""
    folders = sorted(path.parent for path in standardized.glob(f"*/{INDEX}"))
    if not folders:
        raise UserError(f"{standardized.name}/: no source found; {REMEDY}")
    return folders


def shard_paths(standardized: Path) -> list[Path]:
    """List all shards of all sources, in the order of `read_faces`."""
    folders = source_folders(standardized)
    return [folder / name for folder in folders for name in read_index(folder)["shards"]]


def read_faces(standardized: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of all faces of all sources; images that are not asked for are not read.

    Raises:
        UserError: if there is no source, or a shard is missing, damaged or of other columns.
    """
    tables = [_read_shard(path, list(columns)) for path in shard_paths(standardized)]
    empty = SCHEMA.empty_table().select(list(columns))
    frame: pd.DataFrame = pa.concat_tables([empty, *tables]).to_pandas()
    return frame


def _read_shard(path: Path, columns: list[str]) -> pa.Table:
    name = f"{path.parent.name}/{path.name}"
    # Columns are read by their place, and not mapped: the kernel fetches what lies around a mapped
    # page too, all images with it.
    fields = sorted(map(SCHEMA.get_field_index, columns))
    options = pa.ipc.IpcReadOptions(included_fields=fields)
    try:
        with pa.OSFile(str(path)) as file:
            pairs = zip_longest(SCHEMA, list(pa.ipc.open_file(file).schema)[: len(SCHEMA)])
            if unlike := [field.name for field, got in pairs if got is None or got != field]:
                raise UserError(f"{name}: expected other columns: {', '.join(unlike)}; {REMEDY}")
            table = pa.ipc.open_file(file, options=options).read_all()
        # Lengths that a damaged shard claims would be followed into foreign memory.
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name}: expected an Arrow file, found {error}; {REMEDY}") from None
    # A batch's buffers lie in one block as large as the batch in the file; the copy lets it go.
    return table.select(columns).combine_chunks()
