import pickle
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shipped import shipped
from small_faces import small_face

from stages import config
from stages.faces.decode import encode_png
from stages.faces.shards import ShardWriter, read_faces, shard_name
from stages.faces.store import FaceStore
from stages.loading.augmentation import NO_AUGMENTATION
from stages.loading.dataset import FaceDataset
from stages.loading.sampler import Draw
from stages.runtime.errors import UserError


def test_every_id_finds_its_own_image(standardized: Path) -> None:
    faces = read_faces(standardized, ["id", "image"])
    store = FaceStore(standardized)
    shuffled = faces.sample(frac=1, random_state=1)

    positions = store.locate(shuffled["id"].tolist())

    assert len(store) == len(faces)
    assert positions.dtype == np.int64
    assert [bytes(image) for image in store.images(positions)] == shuffled["image"].tolist()
    assert [store.id(int(p)) for p in positions] == shuffled["id"].tolist()


def test_positions_reach_over_batches_and_shards(tmp_path: Path, monkeypatch) -> None:
    from stages.faces import shards as faces

    monkeypatch.setattr(faces, "BATCH_ROWS", 3)
    (tmp_path / "standardized" / "s").mkdir(parents=True)
    with faces.ShardWriter(tmp_path / "standardized" / "s", shard_mb=1) as writer:
        for number in range(10):
            writer.add(_face(f"s/{number}", bytes([number]) * 200_000))

    store = FaceStore(tmp_path / "standardized")

    assert len(list((tmp_path / "standardized" / "s").glob("*.arrow"))) > 1
    assert [image[0] for image in store.images(np.arange(10))] == list(range(10))


def test_an_image_is_a_view_of_the_map(standardized: Path) -> None:
    store = FaceStore(standardized)
    one, two = (np.frombuffer(image, np.uint8) for image in store.images(np.array([5, 5])))
    assert np.shares_memory(one, two)


def test_incident_D7_all_rows_without_an_image_are_one_error(standardized: Path) -> None:
    ids = ["alpha/000", *(f"alpha/gone{n}" for n in range(7)), "beta/000"]
    with pytest.raises(UserError, match=r"7 of 9 manifest rows have no image") as caught:
        FaceStore(standardized).locate(ids)
    message = str(caught.value)
    assert "alpha/gone0, alpha/gone1, alpha/gone2, alpha/gone3, alpha/gone4, ...;" in message
    assert "gone5" not in message
    assert str(standardized.parent) not in message


def test_a_pickled_store_maps_the_same_faces(standardized: Path) -> None:
    store = FaceStore(standardized)
    data = pickle.dumps(store)
    assert len(data) < 1000
    copy = pickle.loads(data)
    one, other = (list(each.images(np.array([11]))) for each in (copy, store))
    assert one == other


def test_no_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the standardize stage"):
        FaceStore(tmp_path / "standardized")


@pytest.mark.parametrize("num_kept", [0, 1, 2_000, 100_000, -1])
def test_a_shard_that_is_cut_short_is_named(shard: Path, num_kept: int) -> None:
    shard.write_bytes(shard.read_bytes()[:num_kept])
    with pytest.raises(UserError, match=EXPECTED):
        FaceStore(shard.parents[1])


def test_a_shard_that_is_not_the_one_of_its_index_is_named(shard: Path) -> None:
    table = pd.read_feather(shard)
    table.head(3).to_feather(shard, compression="uncompressed")
    with pytest.raises(
        UserError, match=r"00000.arrow: expected 300 faces, .* found 3; run the sta"
    ):
        FaceStore(shard.parents[1])
    table.drop(columns="image").to_feather(shard, compression="uncompressed")
    with pytest.raises(UserError, match=EXPECTED):
        FaceStore(shard.parents[1])


def test_ends_of_images_that_a_torn_shard_claims_are_not_followed(shard: Path) -> None:
    whole = shard.read_bytes()
    ends = pa.ipc.open_file(whole).get_batch(0).column("image").buffers()[1].to_pybytes()
    assert whole.count(ends) == 1
    wrong = np.frombuffer(ends, np.int32).copy()
    wrong[2] = 2**30
    shard.write_bytes(whole.replace(ends, wrong.tobytes()))
    with pytest.raises(UserError, match=EXPECTED):
        FaceStore(shard.parents[1])


@pytest.mark.parametrize("whole_bytes", [200, 2_000, 20_000, 100_000])
def test_a_shard_whose_end_was_written_before_its_body_is_named(
    shard: Path, whole_bytes: int
) -> None:
    """What a power cut may leave: the length is right, and pages are zeros."""
    data = shard.read_bytes()
    assert len(data) - 15_000 > whole_bytes
    shard.write_bytes(data[:whole_bytes] + bytes(len(data) - 15_000 - whole_bytes) + data[-15_000:])
    with pytest.raises(UserError, match=r"s/faces-00000\.arrow: .*; run the standardize stage"):
        _decode_all(shard.parents[1])


@given(st.integers(0, 10**9), st.integers(1, 5_000), st.integers(0, 255))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_of_a_shard_may_be_wrong_anywhere(
    whole_shard: Path, tmp_path_factory, place: int, length: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("torn") / "s"
    shutil.copytree(whole_shard.parent, folder)
    data = bytearray((folder / whole_shard.name).read_bytes())
    place %= len(data)
    data[place : place + length] = bytes([value]) * len(data[place : place + length])
    (folder / whole_shard.name).write_bytes(data)
    with suppress(UserError):
        _decode_all(folder.parent)


EXPECTED = r"s/faces-00000\.arrow: expected an Arrow file, found .*; run the standardize stage"


@pytest.fixture(scope="session")
def whole_shard(tmp_path_factory) -> Path:
    """The one shard, of 300 faces in two batches, of a source `s`."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    folder.mkdir(parents=True)
    with ShardWriter(folder, shard_mb=1) as writer:
        for number in range(300):
            writer.add(_face(f"s/{number}", encode_png(np.full((8, 8), number % 200, np.uint8))))
    return folder / shard_name(0)


@pytest.fixture
def shard(whole_shard: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(whole_shard.parent, tmp_path / "standardized" / "s")
    return tmp_path / "standardized" / "s" / whole_shard.name


def _decode_all(standardized: Path) -> None:
    """Every face as training reads it."""
    store = FaceStore(standardized)
    dataset = FaceDataset(
        store,
        positions=store.locate([f"s/{number}" for number in range(300)]),
        targets=np.zeros(300, np.int64),
        image_size=8,
        preprocess=shipped(config.Preprocess),
        augmentation=NO_AUGMENTATION,
        seed=1,
    )
    dataset[[Draw(0, row, row) for row in range(300)]]


def _face(id_: str, image: bytes):
    return small_face(id_, image=image)
