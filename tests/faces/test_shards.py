"""Faces are written into shards, read back as columns and mapped as images; damage is named."""

import pickle
import shutil
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shipped import shipped
from small_faces import small_face

from stages.config import Preprocess
from stages.faces.decode import encode_png
from stages.faces.shards import BATCH_ROWS, SCHEMA, Face, ShardWriter, read_faces, read_index
from stages.faces.store import FaceStore
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.dataset import FaceDataset
from stages.loading.sampler import Draw
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file

NUM_FACES = 300


def write(folder: Path, faces: Iterable[Face], *, shard_mb: int = 1) -> Path:
    folder.mkdir(parents=True)
    with ShardWriter(folder, shard_mb=shard_mb) as writer:
        for face in faces:
            writer.add(face)
    return folder


def make_face(number: int, *, image: bytes = b"x" * 100) -> Face:
    is_odd = number % 2 == 1
    return small_face(
        f"one/{number:05d}",
        image=image,
        votes=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0) if is_odd else None,
        split="train" if number % 3 else None,
        confidence=number / 4 if is_odd else None,
        dhash=2**64 - 1 - number,
    )


@pytest.fixture(scope="module")
def whole_shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shard of a source `s`: small pictures in two batches."""
    images = [encode_png(np.full((8, 8), number % 200, np.uint8)) for number in range(NUM_FACES)]
    faces = [small_face(f"s/{number}", image=image) for number, image in enumerate(images)]
    return write(tmp_path_factory.mktemp("whole") / "s", faces) / "faces-00000.arrow"


@pytest.fixture
def shard(whole_shard: Path, tmp_path: Path) -> Path:
    """A copy of the shard, to be damaged."""
    return Path(shutil.copytree(whole_shard.parent, tmp_path / "s")) / whole_shard.name


# --- written and read --------------------------------------------------------------------------


def test_incident_D1_what_was_written_is_read_back_and_again_the_same_bytes(tmp_path) -> None:
    faces = [make_face(number) for number in range(BATCH_ROWS * 2 + 7)]
    folder, again = (write(tmp_path / name, faces) for name in ("one", "again"))
    names = ["faces-00000.arrow", "index.json"]
    assert [path.name for path in sorted(folder.iterdir())] == names
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)
    frame = pd.read_feather(folder / "faces-00000.arrow")
    assert list(frame.columns) == SCHEMA.names
    for column in ("id", "image", "dhash", "thumbnail", "crop"):
        assert frame[column].tolist() == [getattr(face, column) for face in faces]
    assert frame["votes"][0] is None
    assert frame["votes"][1].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert frame["split"].isna().tolist() == [face.split is None for face in faces]
    assert np.isnan(frame["confidence"][0])


def test_shards_end_at_the_limit_and_images_are_found_across_them(tmp_path: Path) -> None:
    faces = [make_face(n, image=bytes([n % 100]) * 2000) for n in range(BATCH_ROWS * 5)]
    folder = write(tmp_path / "one", faces)
    index = read_index(folder)
    assert [shard["rows"] for shard in index["shards"].values()] == [BATCH_ROWS] * 5
    assert index["faces"] == len(faces)
    for name, shard in index["shards"].items():
        assert shard["sha256"] == sha256_file(folder / name)
        assert (folder / name).stat().st_size < 1.1 * 2**20
    assert read_faces(tmp_path, ["id"])["id"].tolist() == [face.id for face in faces]
    images = FaceStore(tmp_path).images(np.arange(len(faces)))
    assert [image[0] for image in images] == [face.image[0] for face in faces]


def test_big_pictures_make_small_batches(tmp_path: Path) -> None:
    faces = (make_face(number, image=bytes(20 << 20)) for number in range(3))
    folder = write(tmp_path / "one", faces, shard_mb=512)
    with pa.memory_map(str(folder / "faces-00000.arrow")) as file:
        batches = pa.ipc.open_file(file)
        assert [batches.get_batch(n).num_rows for n in range(batches.num_record_batches)] == [2, 1]


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts what is read")
def test_columns_are_read_without_the_images_of_their_faces(tmp_path: Path) -> None:
    def num_bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    faces = [make_face(number, image=bytes(40_000)) for number in range(BATCH_ROWS * 3)]
    write(tmp_path / "one", faces, shard_mb=512)
    before, held = num_bytes_read(), pa.total_allocated_bytes()
    frame = read_faces(tmp_path, ["thumbnail", "id"])
    assert len(faces) * 576 < num_bytes_read() - before < len(faces) * 2_000
    assert pa.total_allocated_bytes() - held < len(faces) * 2_000
    assert frame.columns.tolist() == ["thumbnail", "id"]


def test_no_index_before_the_end_and_none_of_a_source_without_faces(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    writer = ShardWriter(tmp_path / "one", shard_mb=1)
    writer.add(make_face(1))
    writer.__exit__(RuntimeError, None)
    assert not (tmp_path / "one" / "index.json").exists()
    assert read_index(write(tmp_path / "two", [])) == {"shards": {}, "faces": 0}
    assert read_faces(tmp_path, ["id"]).empty


def test_every_id_finds_its_own_image_without_a_copy(whole_shard: Path) -> None:
    shuffled = read_faces(whole_shard.parents[1], ["id", "image"]).sample(frac=1, random_state=1)
    store = FaceStore(whole_shard.parents[1])
    data = pickle.dumps(store)
    assert len(data) < 1000
    for each in (store, pickle.loads(data)):
        positions = each.locate(shuffled["id"].tolist())
        assert [bytes(image) for image in each.images(positions)] == shuffled["image"].tolist()
        assert [each.id(int(position)) for position in positions] == shuffled["id"].tolist()
    first, again = (np.frombuffer(image, np.uint8) for image in store.images(np.array([5, 5])))
    assert np.shares_memory(first, again)


# --- missing and damaged -----------------------------------------------------------------------


def test_incident_D7_all_rows_without_an_image_are_one_error(whole_shard: Path) -> None:
    ids = ["s/0", *(f"s/gone{n}" for n in range(7)), "s/1"]
    with pytest.raises(UserError, match=r"7 of 9 manifest rows have no image") as caught:
        FaceStore(whole_shard.parents[1]).locate(ids)
    assert "s/gone2, s/gone3, s/gone4, ...; run the stand" in str(caught.value)
    assert str(whole_shard.parents[2]) not in str(caught.value)


def read_all(standardized: Path) -> None:
    """Read columns as the manifest does, and decode each face as training does."""
    read_faces(standardized, ["id", "votes", "thumbnail", "split"])
    store = FaceStore(standardized)
    dataset = FaceDataset(
        store,
        positions=store.locate([f"s/{number}" for number in range(NUM_FACES)]),
        targets=np.zeros(NUM_FACES, np.int64),
        image_size=8,
        preprocess=shipped(Preprocess),
        augmentation=NO_AUGMENTATION,
        seed=1,
    )
    dataset[[Draw(0, row, row) for row in range(NUM_FACES)]]


def with_wrong_end(data: bytes, *, column: str) -> bytes:
    """A shard in which a text or image claims to end a gigabyte further on."""
    ends = pa.ipc.open_file(data).get_batch(0).column(column).buffers()[1].to_pybytes()
    assert ends in data
    return data.replace(ends, ends[:8] + struct.pack("<i", 2**30) + ends[12:], 1)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: data[:0],
    "cut off": lambda data: data[:50_000],
    "a byte short": lambda data: data[:-1],
    # What a power cut leaves of a file whose length was known before its bytes.
    "zeros": lambda data: data[:200] + bytes(len(data) - 200),
    "zeros within": lambda data: data[:20_000] + bytes(len(data) - 35_000) + data[-15_000:],
    "end of id": partial(with_wrong_end, column="id"),
    "end of image": partial(with_wrong_end, column="image"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named(shard: Path, damage: str) -> None:
    shard.write_bytes(DAMAGES[damage](shard.read_bytes()))
    with pytest.raises(UserError, match=r"s/faces-00000\.arrow: .*; run the standardize stage"):
        read_all(shard.parents[1])


def test_what_is_missing_or_belies_the_index_is_named(shard: Path, tmp_path: Path) -> None:
    table, index = pd.read_feather(shard), shard.with_name("index.json")

    def expect(words: str, *readers: Callable[[Path], object]) -> None:
        for reader in readers:
            with pytest.raises(UserError, match=f"{words}.*run the standardize stage"):
                reader(tmp_path)

    columns = partial(read_faces, columns=["id"])
    table.head(3).to_feather(shard, compression="uncompressed")
    expect("00000.arrow: expected 300 faces .* found 3", FaceStore)
    table.drop(columns="image").to_feather(shard, compression="uncompressed")
    expect("s/faces-00000.arrow: expected an Arrow file", FaceStore)
    expect("s/faces-00000.arrow: expected other columns: .*image", columns)
    shard.unlink()
    expect("s/faces-00000.arrow: missing", FaceStore, columns)
    index.write_bytes(bytes(200))
    expect("s/index.json: damaged", FaceStore, columns)
    index.unlink()
    expect("no source found", FaceStore, columns)


@given(st.integers(0, 10**9), st.integers(1, 5_000), st.integers(0, 255))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_of_a_shard_may_be_wrong_anywhere(
    whole_shard: Path, tmp_path_factory: pytest.TempPathFactory, place: int, length: int, value: int
) -> None:
    folder = Path(shutil.copytree(whole_shard.parent, tmp_path_factory.mktemp("torn") / "s"))
    data = bytearray(whole_shard.read_bytes())
    place %= len(data)
    data[place : place + length] = bytes([value]) * len(data[place : place + length])
    (folder / whole_shard.name).write_bytes(data)
    with suppress(UserError):
        read_all(folder.parent)
