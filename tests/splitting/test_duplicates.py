from typing import Any

import numpy as np
import pandas as pd
from shipped import shipped

from stages.config import Duplicates
from stages.splitting.duplicates import (
    edges_within_readings,
    find_duplicates,
    near_pictures,
    pair_tables,
    twin_splits,
)
from stages.splitting.frozen import manifest_rows
from tests.splitting.conftest import NEAR, PICTURE, REVIEW, UNLIKE


def mirror(thumbnail: bytes) -> bytes:
    return np.frombuffer(thumbnail, np.uint8).reshape(24, 24)[:, ::-1].tobytes()


def face(id_: str, thumbnail: bytes, **values: Any) -> dict[str, Any]:
    return {"id": id_, "thumbnail": thumbnail} | values


def tables(build, specs: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = manifest_rows(build(specs))
    pairs = find_duplicates(rows, settings=shipped(Duplicates))
    return pair_tables(rows.assign(group="g"), pairs)


def test_kinds_of_pairs(faces) -> None:
    duplicates, review = tables(
        faces,
        [
            face("a/1", PICTURE, split="train"),
            face("a/2", NEAR, split="test", label="Sad"),
            face("b/1", REVIEW, split="train"),
            face("b/2", UNLIKE, split="train"),
            face("b/3", mirror(NEAR), split="val"),
        ],
    )
    assert duplicates.drop(columns="correlation").to_numpy().tolist() == [
        ["a/1", "a/2", "g", "near", "false", "false", "train", "test"],
        ["a/1", "b/3", "g", "near", "true", "true", "train", "val"],
        ["a/2", "b/3", "g", "near", "true", "false", "test", "val"],
    ]
    assert duplicates["correlation"].between(0.93, 1).all()
    assert duplicates["correlation"].iloc[2] == 1.0
    assert review[["id_a", "id_b", "kind"]].to_numpy().tolist() == [["a/1", "b/1", "review"]]
    assert review["correlation"].between(0.90, 0.93).all()


def test_n_copies_make_n_minus_one_pairs_with_the_first(faces) -> None:
    sha256 = "0" * 64
    specs = [
        face("a/1", PICTURE, sha256=sha256, split="train"),
        face("a/2", UNLIKE, split="train"),
        face("b/1", PICTURE, sha256=sha256, split="val", label="Sad"),
        face("c/1", PICTURE, sha256=sha256, split="test"),
    ]
    duplicates, review = tables(faces, specs)
    assert duplicates.to_numpy().tolist() == [
        ["a/1", "b/1", "g", "exact", "false", 1.0, "false", "train", "val"],
        ["a/1", "c/1", "g", "exact", "false", 1.0, "true", "train", "test"],
    ]
    assert review.empty


def test_twin_splits_are_those_of_pairs_and_not_of_chains(faces) -> None:
    specs = [
        face("a/1", PICTURE, split="train"),
        face("a/2", NEAR, split="test"),
        {"id": "b/1", "sha256": "0" * 64, "thumbnail": PICTURE, "split": "val"},
        {"id": "b/2", "sha256": "0" * 64, "thumbnail": PICTURE, "split": "val"},
        face("c/1", UNLIKE, split="train"),
    ]
    rows = manifest_rows(faces(specs))
    pictures = near_pictures(rows, find_duplicates(rows, settings=shipped(Duplicates)))
    assert len(pictures) == 2 * 3
    twins = twin_splits(rows, splits=rows["split"], near=pictures)
    assert twins.to_list() == ["val+test", "train+val", "train+test", "train+test", ""]
    alone = twin_splits(rows, splits=rows["split"], near=pictures.iloc[:0])
    assert alone.to_list() == [""] * 5


def test_edges_within_a_reading_do_not_depend_on_another_source(faces) -> None:
    """Copies in a source that sorts first must not take a near pair away from its own reading."""
    own = [face("b/1", PICTURE), face("b/2", NEAR), face("b/3", UNLIKE)]
    other = [face("a/1", PICTURE, sha256="1" * 64)]
    own[0]["sha256"] = "1" * 64
    alone, both = manifest_rows(faces(own)), manifest_rows(faces([*other, *own]))

    def named(rows: pd.DataFrame) -> set[tuple[str, str]]:
        edges = edges_within_readings(rows, find_duplicates(rows, settings=shipped(Duplicates)))
        ids = rows["id"].to_numpy()
        return {(ids[a], ids[b]) for a, b in np.concatenate(edges)}

    assert named(alone) == named(both) == {("b/1", "b/2")}


def test_two_sources_of_one_reading_are_one(faces) -> None:
    hq, lq = face("expw_hq/p#0", PICTURE, photo="expw/p"), face("expw_lq/q#0", NEAR, photo="expw/q")
    rows = manifest_rows(faces([hq, lq]))
    exact, near = edges_within_readings(rows, find_duplicates(rows, settings=shipped(Duplicates)))
    assert (exact.tolist(), near.tolist()) == ([], [[0, 1]])
