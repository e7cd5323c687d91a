from typing import Any

import numpy as np
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


def test_n_copies_make_n_minus_one_pairs_with_the_first_and_near_pictures_all(faces) -> None:
    same = {"sha256": "0" * 64, "thumbnail": PICTURE, "photo": "a/p"}
    specs = [
        {"id": "a/1", "split": "train"} | same,
        face("a/2", NEAR, split="test", label="Sad"),
        face("b/1", REVIEW, split="train"),
        face("b/2", UNLIKE, split="train"),
        face("b/3", mirror(NEAR), split="val"),
        {"id": "b/4", "split": "val", "label": "Sad"} | same,
        {"id": "b/5", "split": "test"} | same,
    ]
    rows = manifest_rows(faces(specs))
    pairs = find_duplicates(rows, settings=shipped(Duplicates))
    duplicates, review = pair_tables(rows.assign(group="g"), pairs)
    assert duplicates.drop(columns="correlation").to_numpy().tolist() == [
        ["a/1", "a/2", "g", "near", "false", "false", "train", "test"],
        ["a/1", "b/3", "g", "near", "true", "true", "train", "val"],
        ["a/1", "b/4", "g", "exact", "false", "false", "train", "val"],
        ["a/1", "b/5", "g", "exact", "false", "true", "train", "test"],
        ["a/2", "b/3", "g", "near", "true", "false", "test", "val"],
    ]
    assert duplicates["correlation"].between(0.93, 1).all()
    assert duplicates["correlation"].iloc[2:].to_list() == [1.0, 1.0, 1.0]
    assert review[["id_a", "id_b", "kind"]].to_numpy().tolist() == [["a/1", "b/1", "review"]]
    assert review["correlation"].between(0.90, 0.93).all()


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


def test_edges_within_a_reading_do_not_depend_on_another_source(faces) -> None:
    """Copies in a source that sorts first must not take a near pair away from its own reading."""
    own = [
        face("hq/1", PICTURE, sha256="1" * 64, photo="b/1"),
        face("lq/2", NEAR, photo="b/2"),
        face("lq/3", UNLIKE, photo="b/3"),
    ]
    for specs in (own, [face("a/1", PICTURE, sha256="1" * 64), *own]):
        rows = manifest_rows(faces(specs))
        edges = edges_within_readings(rows, find_duplicates(rows, settings=shipped(Duplicates)))
        assert rows["id"].to_numpy()[np.concatenate(edges)].tolist() == [["hq/1", "lq/2"]]
