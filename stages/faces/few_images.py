"""The encoded images of a few faces, out of shards of any size."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stages.faces.shards import shard_paths
from stages.runtime.errors import UserError


def read_images(standardized: Path, ids: Collection[str]) -> dict[str, bytes]:
    """Read the images of some faces by id; of the other images no byte is touched.

    Raises:
        UserError: for all ids without an image at once.
    """
    wanted = sorted(set(ids))
    found: dict[str, bytes] = {}
    for path in shard_paths(standardized):
        found |= _read(path, wanted)
    if absent := [id_ for id_ in wanted if id_ not in found]:
        raise UserError(
            f"{standardized.name}/: {len(absent)} of {len(wanted)} rows have no image, such as "
            f"{absent[0]!r}; run the standardize stage"
        )
    return found


def _read(path: Path, wanted: list[str]) -> dict[str, bytes]:
    with pa.memory_map(str(path)) as shard:
        faces = pa.ipc.open_file(shard).read_all()
        places = pc.index_in(pa.array(wanted, pa.string()), value_set=faces["id"]).to_pylist()
        return {
            id_: faces["image"][place].as_py()
            for id_, place in zip(wanted, places, strict=True)
            if place is not None
        }
