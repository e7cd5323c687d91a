from pathlib import Path

import pytest
from small_faces import small_face

from stages.faces.few_images import read_images
from stages.faces.shards import ShardWriter
from stages.runtime.errors import UserError


@pytest.fixture
def standardized(tmp_path: Path) -> Path:
    for source in "ab":
        (tmp_path / source).mkdir()
        with ShardWriter(tmp_path / source, shard_mb=1) as writer:
            for number in range(600):
                id_ = f"{source}/{number}"
                writer.add(small_face(id_, image=id_.encode() * 1000))
    return tmp_path


def test_the_images_asked_for_out_of_several_shards(standardized: Path) -> None:
    assert len(list(standardized.glob("a/*.arrow"))) > 1
    ids = {"a/0", "a/255", "a/256", "a/599", "b/300"}
    assert read_images(standardized, ids) == {id_: id_.encode() * 1000 for id_ in ids}


def test_no_images(standardized: Path) -> None:
    assert read_images(standardized, []) == {}


def test_all_ids_without_an_image_at_once(standardized: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 3 rows have no image, such as 'a/x'"):
        read_images(standardized, ["b/x", "a/x", "a/1"])
