from pathlib import Path

import pytest
from small_faces import small_face

from stages.faces.shards import ShardWriter
from stages.runtime.errors import UserError
from stages.survey.indexes import SourceIndex, read_indexes

COUNTS = {
    "rejects": {"image_missing": 2},
    "crops": {"none": 0, "box": 1, "aligned": 0},
    "boxes_partly_outside": 1,
    "boxes_in_turned_photos": {"stored": 1, "turned": 0},
}


def write(standardized: Path, name: str, facts: dict) -> None:
    (standardized / name).mkdir(parents=True)
    with ShardWriter(standardized / name, shard_mb=1) as writer:
        writer.add(small_face(f"{name}/1"))
        writer.note(facts)


def test_counts_of_each_folder(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path, name, COUNTS | {"rows": 3})
    assert read_indexes(tmp_path) == tuple(
        SourceIndex(name=name, faces=1, **COUNTS) for name in ("a", "b")
    )


def test_a_folder_of_an_older_version_says_what_to_run(tmp_path: Path) -> None:
    write(tmp_path, "a", {"rejects": {}})
    expected = r"a/index\.json: expected counts of \['crops', 'boxes_partly_outside', 'boxes_in_turned_photos'\].*standardize"
    with pytest.raises(UserError, match=expected):
        read_indexes(tmp_path)
