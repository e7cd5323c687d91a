"""Memory-mapped shards: face id -> position -> encoded image."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.faces.decode import Image, decode
from stages.faces.shards import REMEDY, read_index, source_folders
from stages.runtime.errors import UserError


class FaceStore:
    """All faces of all sources, numbered from 0 in the order of `faces.shards.read_faces`.

    Images are read when asked for, and not copied. A pickled store maps the shards anew.
    """

    def __init__(self, standardized: Path) -> None:
        """Map the shards; a torn image is found only when it is decoded.

        Raises:
            UserError: if no shard is there, or one is missing, torn or not what the index says.
        """
        self._folder, self._names = standardized, list[str]()
        self._batches: list[pa.RecordBatch] = []
        for folder in source_folders(standardized):
            for name, shard in read_index(folder)["shards"].items():
                batches = _open(folder, name, num_rows=shard["rows"])
                self._batches += batches
                self._names += [f"{folder.name}/{name}"] * len(batches)
        # The bytes of a batch's images and where each begins: a pyarrow scalar would copy them.
        buffers = [batch.column("image").buffers() for batch in self._batches]
        self._images = [
            (memoryview(data), np.frombuffer(offsets, np.int32)) for _, offsets, data in buffers
        ]
        # Where each batch begins, and where the last one ends.
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])

    def __reduce__(self) -> tuple[type["FaceStore"], tuple[Path]]:
        return FaceStore, (self._folder,)

    def decode(self, ids: Iterable[str]) -> dict[str, Image]:
        """Decode a few faces, by id; of the other images no byte is touched."""
        distinct = sorted(set(ids))
        images = self.images(self.locate(distinct))
        return dict(zip(distinct, map(decode, images), strict=True))

    def locate(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Find the positions of faces.

        Raises:
            UserError: for all ids without an image at once.
        """
        known = pa.chunked_array([batch.column("id") for batch in self._batches], pa.string())
        positions = pc.index_in(pa.array(ids, pa.string()), value_set=known)
        if positions.null_count:
            absent = [ids[row] for row in np.flatnonzero(pc.is_null(positions)).tolist()]
            raise UserError(
                f"{self._folder.name}/: {len(absent)} of {len(ids)} manifest rows have no image: "
                f"{', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''}; "
                "run the standardize and manifest stages"
            )
        return np.asarray(positions.to_numpy(), np.int64)

    def images(self, positions: npt.NDArray[np.int64]) -> Iterator[memoryview]:
        """Yield the encoded images, without a copy."""
        for number, row in self._batches_and_rows(positions):
            data, offsets = self._images[number]
            yield data[offsets[row] : offsets[row + 1]]

    def id(self, position: int) -> str:
        """Return the id of the face."""
        ((number, row),) = self._batches_and_rows(np.array([position]))
        return str(self._batches[number].column("id")[row].as_py())

    def shard(self, position: int) -> str:
        """Name the shard that holds the face, as `<source>/<file>`."""
        ((number, _),) = self._batches_and_rows(np.array([position]))
        return self._names[number]

    def _batches_and_rows(self, positions: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        numbers = np.searchsorted(self._starts, positions, side="right") - 1
        rows = positions - self._starts[numbers]
        return zip(numbers.tolist(), rows.tolist(), strict=True)


def _open(folder: Path, name: str, *, num_rows: int) -> list[pa.RecordBatch]:
    place = f"{folder.name}/{name}"
    try:
        shard = pa.ipc.open_file(pa.memory_map(str(folder / name)))
        batches = [shard.get_batch(number) for number in range(shard.num_record_batches)]
        for batch in batches:
            # Lengths that a damaged shard claims would be followed into foreign memory.
            batch.select(["id", "image"]).validate(full=True)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{place}: expected an Arrow file, found {error}; {REMEDY}") from None
    if (found := sum(batch.num_rows for batch in batches)) != num_rows:
        raise UserError(f"{place}: expected {num_rows} faces (index.json), found {found}; {REMEDY}")
    return batches
