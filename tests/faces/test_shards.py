import json
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.faces.shards import (
    BATCH_ROWS,
    SCHEMA,
    Face,
    ShardWriter,
    read_faces,
    read_index,
    shard_paths,
)
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file


def make_face(number: int, *, source: str = "one", image_bytes: int = 100) -> Face:
    rng = np.random.default_rng(number)
    return Face(
        id=f"{source}/{number:05d}",
        image=rng.bytes(image_bytes),
        width=48,
        height=40,
        native_px=40,
        label="Happy",
        votes=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0) if number % 2 else None,
        split="train" if number % 3 else None,
        photo=f"{source}/{number // 2}",
        confidence=number / 4 if number % 2 else None,
        sha256=f"{number:064x}",
        dhash=2**64 - 1 - number,
        thumbnail=rng.bytes(576),
        crop="box" if number % 2 else "none",
        raw=f"{source}.zip/{number}.png",
    )


def write(folder: Path, faces: list[Face], *, shard_mb: int = 512) -> Path:
    folder.mkdir(parents=True)
    with ShardWriter(folder, shard_mb=shard_mb) as writer:
        for face in faces:
            writer.add(face)
    return folder


def test_what_was_written_is_read_back(tmp_path: Path):
    faces = [make_face(number) for number in range(BATCH_ROWS * 2 + 7)]
    folder = write(tmp_path / "one", faces)
    frame = pd.read_feather(folder / "faces-00000.arrow")
    assert list(frame.columns) == SCHEMA.names
    assert frame["id"].tolist() == [face.id for face in faces]
    assert frame["image"].tolist() == [face.image for face in faces]
    assert frame["dhash"].tolist() == [face.dhash for face in faces]
    assert frame["thumbnail"].tolist() == [face.thumbnail for face in faces]
    assert frame["crop"].tolist() == [face.crop for face in faces]
    assert frame["votes"][0] is None
    assert frame["votes"][1].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert frame["split"].isna().tolist() == [face.split is None for face in faces]
    assert np.isnan(frame["confidence"][0])


def test_incident_D1_the_same_faces_give_the_same_bytes(tmp_path: Path):
    faces = [make_face(number) for number in range(600)]
    one, two = (write(tmp_path / name, faces) for name in ("a", "b"))
    names = [path.name for path in sorted(one.iterdir())]
    assert names == ["faces-00000.arrow", "index.json"]
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_shards_end_at_the_limit_and_the_index_counts_them(tmp_path: Path):
    faces = [make_face(number, image_bytes=2000) for number in range(BATCH_ROWS * 5)]
    folder = write(tmp_path / "one", faces, shard_mb=1)
    index = read_index(folder)
    rows = [shard["rows"] for shard in index["shards"].values()]
    assert rows == [BATCH_ROWS] * 5
    assert index["faces"] == sum(rows) == len(faces)
    for name, shard in index["shards"].items():
        assert shard["sha256"] == sha256_file(folder / name)
        assert (folder / name).stat().st_size < 1.1 * 2**20
    assert read_faces(tmp_path, ["id"])["id"].tolist() == [face.id for face in faces]


def test_big_pictures_make_small_batches(tmp_path: Path):
    folder = write(tmp_path / "one", [make_face(n, image_bytes=20 << 20) for n in range(3)])
    with pa.memory_map(str(folder / "faces-00000.arrow")) as file:
        batches = pa.ipc.open_file(file)
        assert [batches.get_batch(n).num_rows for n in range(batches.num_record_batches)] == [2, 1]


def test_a_memory_map_hands_out_images_without_copying(tmp_path: Path):
    folder = write(tmp_path / "one", [make_face(number) for number in range(300)])
    before = pa.total_allocated_bytes()
    with pa.memory_map(str(folder / "faces-00000.arrow")) as file:
        batch = pa.ipc.open_file(file).get_batch(1)
        image = batch.column("image")[10].as_buffer()
        assert image.to_pybytes() == make_face(BATCH_ROWS + 10).image
        assert pa.total_allocated_bytes() - before < image.size


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts what is read")
def test_columns_are_read_without_the_images_of_their_faces(tmp_path: Path):
    def num_bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    faces = [make_face(number, image_bytes=40_000) for number in range(BATCH_ROWS * 3)]
    write(tmp_path / "one", faces)
    before, held = num_bytes_read(), pa.total_allocated_bytes()
    frame = read_faces(tmp_path, ["thumbnail", "id"])
    assert len(faces) * 576 < num_bytes_read() - before < len(faces) * 2_000
    assert pa.total_allocated_bytes() - held < len(faces) * 2_000
    assert frame.columns.tolist() == ["thumbnail", "id"]
    assert frame["thumbnail"].tolist() == [face.thumbnail for face in faces]


def test_all_sources_are_read_by_name(tmp_path: Path):
    write(tmp_path / "zoo", [make_face(1, source="zoo")])
    write(tmp_path / "ant", [make_face(2, source="ant")])
    frame = read_faces(tmp_path, ["id", "votes", "native_px"])
    assert frame["id"].tolist() == ["ant/00002", "zoo/00001"]
    assert list(frame.columns) == ["id", "votes", "native_px"]
    assert [path.parent.name for path in shard_paths(tmp_path)] == ["ant", "zoo"]


def test_no_index_before_the_end(tmp_path: Path):
    folder = tmp_path / "one"
    folder.mkdir()

    def fail_halfway():
        with ShardWriter(folder, shard_mb=1) as writer:
            writer.add(make_face(1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert not (folder / "index.json").exists()


def test_missing_pieces_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"no source found; run the standardize stage"):
        read_faces(tmp_path, ["id"])
    folder = write(tmp_path / "one", [make_face(1)])
    (folder / "faces-00000.arrow").unlink()
    with pytest.raises(UserError, match=r"one/faces-00000.arrow: missing"):
        read_faces(tmp_path, ["id"])
    with pytest.raises(UserError, match=r"two/index.json: missing"):
        read_index(tmp_path / "two")


@pytest.mark.parametrize("num_kept", [0, 1, 2_000, 50_000, -1])
def test_a_shard_that_was_cut_off_is_an_error(tmp_path: Path, num_kept: int):
    folder = write(tmp_path / "one", [make_face(number) for number in range(300)])
    shard = folder / "faces-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:num_kept])
    with pytest.raises(UserError, match=r"one/faces-00000.arrow: .*run the standardize stage"):
        read_faces(tmp_path, ["id", "thumbnail"])


@pytest.mark.parametrize("tail", [0, 200, 20_000])
def test_a_shard_of_zeros_is_an_error(tmp_path: Path, tail: int):
    folder = write(tmp_path / "one", [make_face(number) for number in range(300)])
    shard = folder / "faces-00000.arrow"
    data = shard.read_bytes()
    # What a file system leaves of a file whose length it knew and whose bytes it did not have yet.
    shard.write_bytes(data[:tail] + bytes(len(data) - tail))
    with pytest.raises(UserError, match=r"one/faces-00000.arrow: .*run the standardize stage"):
        read_faces(tmp_path, ["id"])


@given(st.integers(0, 10**9), st.integers(0, 255))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_byte_of_a_shard_may_be_wrong(tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("faces")
    shard = write(folder / "one", [make_face(number) for number in range(5)]) / "faces-00000.arrow"
    data = bytearray(shard.read_bytes())
    data[place % len(data)] = value
    shard.write_bytes(data)
    with suppress(UserError):
        read_faces(folder, ["id", "votes", "thumbnail", "split"])


def test_a_shard_that_claims_more_text_than_it_has_is_an_error(tmp_path: Path):
    folder = write(tmp_path / "one", [make_face(number) for number in range(5)])
    shard = folder / "faces-00000.arrow"
    ends = struct.pack("<6i", *(len("one/00000") * n for n in range(6)))
    wrong = ends[:8] + struct.pack("<i", 2**30) + ends[12:]
    whole = shard.read_bytes()
    assert whole.count(ends) == 1
    shard.write_bytes(whole.replace(ends, wrong))
    with pytest.raises(UserError, match=r"one/faces-00000.arrow: expected an Arrow file"):
        read_faces(tmp_path, ["id"])


def test_a_shard_of_other_columns_is_an_error(tmp_path: Path):
    folder = write(tmp_path / "one", [make_face(1)])
    shard = folder / "faces-00000.arrow"
    table = pd.read_feather(shard).drop(columns="thumbnail")
    table.to_feather(shard, compression="uncompressed")
    with pytest.raises(
        UserError, match=r"expected other columns: .*thumbnail.*run the standardize"
    ):
        read_faces(tmp_path, ["id"])


def test_an_index_of_zeros_is_an_error(tmp_path: Path):
    folder = write(tmp_path / "one", [make_face(1)])
    (folder / "index.json").write_bytes(bytes(200))
    with pytest.raises(UserError, match=r"one/index.json: damaged: .*run the standardize stage"):
        read_faces(tmp_path, ["id"])


def test_the_index_says_what_was_noted(tmp_path: Path):
    with ShardWriter(tmp_path, shard_mb=1) as writer:
        writer.note({"rows": 7})
        writer.add(make_face(1))
    assert {key: read_index(tmp_path)[key] for key in ("faces", "rows")} == {"faces": 1, "rows": 7}


def test_a_source_without_faces_has_an_empty_index(tmp_path: Path):
    folder = write(tmp_path / "one", [])
    assert json.loads((folder / "index.json").read_text()) == {"shards": {}, "faces": 0}
    assert read_faces(tmp_path, ["id"]).empty
