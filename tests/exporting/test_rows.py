"""Rows that an export chooses, and the soft labels of a view."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from shipped import shipped

from stages.config import Export, Filter
from stages.exporting.bundle import read_bundle
from stages.exporting.rows import held_out_rows, join_by_id, seen_ids, spread
from stages.exporting.soft_labels import write_soft_labels
from stages.records.folder import read_folder
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, write_json

VIEW = pd.DataFrame({"id": list("abcd"), "source": "s", "label": "Fear", "split": "train"})


@given(st.permutations(["a#0", "a#1", "b", "c"]))
def test_rows_follow_the_view_whatever_the_order_of_prediction(order):
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
def test_incident_X5_the_join_is_complete_or_an_error(ids, wanted, message):
    with pytest.raises(UserError, match=message):
        join_by_id(np.zeros((len(ids), 7)), ids=ids, wanted=wanted)


def test_rows_held_out_are_test_rows_that_no_teacher_was_trained_on():
    rows = pd.DataFrame({"id": list("abcde"), "split": ["train", "val", "test", "test", "val"]})
    for seen, expected in (("d", ("test", ["c"])), ("cde", ("val", ["b"]))):
        split, held_out = held_out_rows(rows, seen=set(seen))
        assert (split, held_out["id"].tolist()) == expected
    with pytest.raises(UserError, match="expected test or val rows"):
        held_out_rows(rows, seen=set("bcde"))
    for count, chosen in ((1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (99, list(range(10)))):
        assert spread(pd.DataFrame({"id": range(10)}), count)["id"].tolist() == chosen


@pytest.mark.parametrize("wide", ["stageB/B3", "stageA/RN18"])
def test_reported_a_row_is_seen_with_its_group_and_by_any_teacher(project, tmp_path, wide):
    models = Path(shutil.copytree(project / "models", tmp_path / "models"))
    manifest = read_folder(project / "manifests")
    cards = read_bundle(models).ensemble.cards
    train, test = (manifest.rows[manifest.rows["split"] == name] for name in ("train", "test"))
    few = seen_ids(models, cards, manifest=manifest)
    groups = set(train.loc[train["id"].isin(few), "group"])
    assert 0 < len(groups) < train["group"].nunique()
    assert set(train.loc[train["group"].isin(groups), "id"]) == few & set(train["id"])
    # Of the test rows those that logits.parquet says are seen.
    assert few & set(test["id"]) == {test["id"].iloc[0]}
    # A copy kept in a folder of another name is no matter.
    shutil.copytree(models / "stageB", models / "kept")
    assert seen_ids(models, cards, manifest=manifest) == few
    # A member, or what it started from, that learnt from all train rows makes all of them seen.
    path = models / wide / "teacher.json"
    write_json(path, read_json(path) | {"filter": Filter().model_dump(mode="json")})
    assert set(train["id"]) <= seen_ids(models, cards, manifest=manifest)
    write_json(path, read_json(path) | {"manifest_sha256": "f" * 64})
    with pytest.raises(UserError, match=f"{wide} was trained on another manifest"):
        seen_ids(models, cards, manifest=manifest)


@pytest.mark.parametrize(
    ("scale", "wide"),
    [
        (1, True),
        pytest.param(3, False, id="test_reported_rows_that_a_teacher_has_learnt_are_told_apart"),
        pytest.param(30, False, id="test_incident_N7_nearly_one_hot_labels_are_warned_of"),
        (600, False),
    ],
)
def test_incident_N2_the_temperature_for_students_is_reported_and_not_applied(
    tmp_path, caplog, scale, wide
):
    settings = shipped(Export, distillation_temperature=4.0, float32_logits=wide)
    expected = softmax(np.random.default_rng(0).normal(size=(4, 7)) * scale, axis=1)
    with caplog.at_level(logging.WARNING):
        labels = write_soft_labels(tmp_path, VIEW, expected, seen={"a", "d"}, settings=settings)
    logits = np.load(tmp_path / "softlabels.npz")["logits"]
    assert logits.dtype == (np.float32 if wide else np.float16)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(softmax(logits.astype(np.float64), axis=1), expected, atol=1e-3)
    top = expected.max(axis=1)
    assert labels.mean_top_probability == pytest.approx(top.mean())
    assert labels.by_seen["seen"].mean_top_probability == pytest.approx(top[[0, 3]].mean())
    assert labels.nearly_one_hot is ("nearly one-hot" in caplog.text) is (scale >= 30)
    # The temperature for students is reported and not applied.
    assert labels.distillation_temperature == 4.0
    softened = softmax(np.log(np.maximum(expected, 1e-300)) / 4, axis=1).max(axis=1).mean()
    assert labels.mean_top_probability_distilled == pytest.approx(softened, abs=1e-6)
