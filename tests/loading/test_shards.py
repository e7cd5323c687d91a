import pickle
from pathlib import Path

import numpy as np
import pytest
from small_faces import small_face

from stages.loading.shards import FaceStore
from stages.records.faces import read_faces
from stages.runtime.errors import UserError


def test_every_id_finds_its_own_image(standardized: Path) -> None:
    faces = read_faces(standardized, ["id", "image"])
    store = FaceStore(standardized)
    shuffled = faces.sample(frac=1, random_state=1)

    positions = store.locate(shuffled["id"].tolist())

    assert len(store) == len(faces)
    assert positions.dtype == np.int64
    assert [bytes(store.image(int(p))) for p in positions] == shuffled["image"].tolist()
    assert [store.id(int(p)) for p in positions] == shuffled["id"].tolist()


def test_positions_reach_over_batches_and_shards(tmp_path: Path, monkeypatch) -> None:
    from stages.records import faces

    monkeypatch.setattr(faces, "BATCH_ROWS", 3)
    (tmp_path / "standardized" / "s").mkdir(parents=True)
    with faces.ShardWriter(tmp_path / "standardized" / "s", shard_mb=1) as writer:
        for number in range(10):
            writer.add(_face(f"s/{number}", bytes([number]) * 200_000))

    store = FaceStore(tmp_path / "standardized")

    assert len(list((tmp_path / "standardized" / "s").glob("*.arrow"))) > 1
    assert [store.image(p)[0] for p in range(10)] == list(range(10))


def test_an_image_is_a_view_of_the_map(standardized: Path) -> None:
    store = FaceStore(standardized)
    one, two = np.frombuffer(store.image(5), np.uint8), np.frombuffer(store.image(5), np.uint8)
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
    assert bytes(copy.image(11)) == bytes(store.image(11))


def test_no_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the standardize stage"):
        FaceStore(tmp_path / "standardized")


def test_a_shard_that_is_cut_short_is_named(tmp_path: Path) -> None:
    from stages.records import faces

    folder = tmp_path / "standardized" / "s"
    folder.mkdir(parents=True)
    with faces.ShardWriter(folder, shard_mb=1) as writer:
        writer.add(_face("s/0", b"x" * 5000))
    shard = folder / faces.shard_name(0)
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"s/faces-00000\.arrow: expected an Arrow file"):
        FaceStore(tmp_path / "standardized")


def _face(id_: str, image: bytes):
    return small_face(id_, image=image)
