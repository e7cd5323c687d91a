import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.config import Filter
from stages.exporting.bundle import read_bundle
from stages.exporting.rows import held_out_rows, join_by_id, seen_ids, spread
from stages.records.folder import read_folder
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, write_json
from tests.exporting.project import FILTER


@given(st.permutations(["a#0", "a#1", "b", "c"]))
def test_rows_follow_the_view_whatever_the_order_of_prediction(order: list[str]) -> None:
    wanted = ["a#0", "a#1", "b", "c"]
    predictions = np.array([[float(wanted.index(name))] for name in order])
    assert join_by_id(predictions, ids=order, wanted=wanted)[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("ids", "wanted", "message"),
    [
        (["p#0", "p#0"], ["p#0", "p#1"], r"1 ids \(p#0\) stand more than once in the predictions"),
        (["p#0", "p#1"], ["p#0", "p#0"], r"1 ids \(p#0\) stand more than once in the view"),
        (["p#0"], ["p#0", "p#1"], r"1 ids \(p#1\) of the view have no prediction"),
        (["p#0", "p#1"], ["p#0"], r"1 ids \(p#1\) are predicted but not in the view"),
        ([], [f"p#{i}" for i in range(9)], r"9 ids \(p#0, p#1, p#2, p#3, p#4 and 4 more\)"),
    ],
)
def test_incident_X5_the_join_is_complete_or_an_error(
    ids: list[str], wanted: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        join_by_id(np.zeros((len(ids), 7)), ids=ids, wanted=wanted)


def test_rows_held_out_are_test_rows_that_no_teacher_was_trained_on() -> None:
    rows = pd.DataFrame({"id": list("abcde"), "split": ["train", "val", "test", "test", "val"]})
    split, held_out = held_out_rows(rows, seen={"d"})
    assert (split, held_out["id"].tolist()) == ("test", ["c"])
    split, held_out = held_out_rows(rows, seen={"c", "d", "e"})
    assert (split, held_out["id"].tolist()) == ("val", ["b"])
    with pytest.raises(UserError, match="expected test or val rows"):
        held_out_rows(rows, seen=set("bcde"))


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (99, range(10))]
)
def test_a_sample_is_spread_over_all_rows(count: int, chosen: list[int]) -> None:
    rows = pd.DataFrame({"id": range(10)})
    assert spread(rows, count)["id"].tolist() == list(chosen)


@pytest.fixture
def models(project: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(project / "models", tmp_path / "models"))


def seen(models: Path, project: Path) -> frozenset[str]:
    manifest = read_folder(project / "manifests")
    return seen_ids(models, read_bundle(models).ensemble.cards, manifest=manifest)


def admit_all(folder: Path) -> None:
    """Have a teacher say that it learnt from all train rows."""
    whole = {"filter": Filter().model_dump(mode="json")}
    for name in ("alignmentreport.json", "teacher.json"):
        write_json(folder / name, read_json(folder / name) | whole)


def test_reported_a_row_is_seen_with_its_group_and_by_any_teacher(
    models: Path, project: Path
) -> None:
    assert FILTER.max_per_class == 1
    rows = read_folder(project / "manifests").rows
    train = rows[rows["split"] == "train"]
    few = seen(models, project)
    groups = set(train.loc[train["id"].isin(few), "group"])
    assert 0 < len(groups) < train["group"].nunique()
    assert set(train.loc[train["group"].isin(groups), "id"]) == few & set(train["id"])
    # Of the test rows those that logits.parquet says are seen.
    test = rows[rows["split"] == "test"]["id"]
    assert few & set(test) == {test.iloc[0]}
    # Another member that learnt from all train rows makes all of them seen.
    admit_all(models / "stageB" / "B3")
    assert set(train["id"]) <= seen(models, project)


def test_what_the_stage_before_has_learnt_is_seen_too(models: Path, project: Path) -> None:
    rows = read_folder(project / "manifests").rows
    train = set(rows.loc[rows["split"] == "train", "id"])
    assert not train <= seen(models, project)
    before = models / "stageA" / "RN18"
    admit_all(before)
    assert train <= seen(models, project)
    card = read_json(before / "teacher.json")
    write_json(before / "teacher.json", card | {"manifest_sha256": "f" * 64})
    with pytest.raises(UserError, match="stageA/RN18 was trained on another manifest"):
        seen(models, project)


def test_a_copy_kept_in_a_folder_of_another_name_is_no_matter(models: Path, project: Path) -> None:
    expected = seen(models, project)
    shutil.copytree(models / "stageB", models / "kept")
    assert seen(models, project) == expected
