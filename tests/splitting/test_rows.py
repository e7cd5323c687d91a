import json
from pathlib import Path

import numpy as np
import pytest
from small_faces import small_face

from stages.faces.shards import ShardWriter
from stages.records.schema import SHARE_COLUMNS
from stages.runtime.errors import UserError
from stages.splitting.frozen import manifest_rows, read_all_faces


def test_shares_are_votes_over_their_sum(faces) -> None:
    rows = manifest_rows(
        faces(
            [
                {"id": "s/c", "votes": np.array([0, 0, 0, 0, 0, 0, 0], dtype="float32")},
                {"id": "s/b", "votes": np.array([1, 0, 0, 2, 0, 0, 0], dtype="float32")},
                {"id": "s/a", "votes": None},
            ]
        )
    )
    assert rows["id"].to_list() == ["s/a", "s/b", "s/c"]
    shares = rows[list(SHARE_COLUMNS)].to_numpy()
    assert np.isnan(shares[[0, 2]]).all()
    assert shares[1].tolist() == [0.333333, 0, 0, 0.666667, 0, 0, 0]


def test_source_is_the_start_of_the_id(faces) -> None:
    rows = manifest_rows(faces([{"id": "expw_hq/a/b.jpg#1"}, {"id": "expw_lq/a/b.jpg#2"}]))
    assert rows["source"].to_list() == ["expw_hq", "expw_lq"]


def test_a_confidence_is_what_the_detector_wrote(faces) -> None:
    rows = manifest_rows(faces([{"id": "s/a", "confidence": 0.7}, {"id": "s/b"}]))
    assert rows["confidence"].iloc[0] == 0.7  # float32 would give 0.699999988
    assert np.isnan(rows["confidence"].iloc[1])


def test_a_repeated_id_is_an_error(faces) -> None:
    twice = faces([{"id": "s/a"}, {"id": "s/b"}, {"id": "s/a", "photo": "other"}])
    with pytest.raises(UserError, match=r"expected each id once, got 1 ids .* \['s/a'\]"):
        manifest_rows(twice)


def test_faces_are_held_against_the_indexes(tmp_path: Path) -> None:
    folder = tmp_path / "standardized" / "s"
    folder.mkdir(parents=True)
    face = small_face("s/a", votes=(0, 0, 0, 0, 3, 1, 0))
    with ShardWriter(folder, shard_mb=1) as writer:
        writer.add(face)
    found = read_all_faces(tmp_path / "standardized")
    assert manifest_rows(found)[["p_sad", "p_surprise"]].to_numpy().tolist() == [[0.75, 0.25]]
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"faces": 2}))
    with pytest.raises(UserError, match=r"expected \{'s': 2\}, got 1"):
        read_all_faces(tmp_path / "standardized")
