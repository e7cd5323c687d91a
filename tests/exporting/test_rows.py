"""Rows that an export chooses, and the soft labels of a view."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from shipped import shipped

from stages.config import Export, Filter
from stages.exporting.bundle import read_bundle
from stages.exporting.export_files import HeldOutAccuracy
from stages.exporting.rows import held_out_rows, seen_ids, spread
from stages.exporting.soft_labels import RowLabels, label_rows, write_soft_labels
from stages.records.folder import read_folder
from stages.records.schema import SHARE_COLUMNS
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, write_json
from tests.exporting.tiny import CALIBRATION

SAID = "soft labels of 2 rows with votes have the majority's temperature: "
VIEW = pd.DataFrame({"id": list("abcd"), "source": "s", "label": "Fear", "split": "train"})
HELD_OUT = HeldOutAccuracy(
    n=9,
    mean_top_probability=0.3,
    split="test",
    accuracy=1,
    accuracy_95=(1, 1),
    fitted_on="val",
    weights_sha256={},
)


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
    ("crowd", "no_fit", "lacks"),
    [
        (2.5, None, None),
        (None, None, "too few val rows have votes to fit the crowd's"),
        (1.0, "all are right", "the crowd's is no fit: all are right"),
    ],
)
def test_rows_with_votes_have_the_crowds_temperature_if_it_is_a_fit(caplog, crowd, no_fit, lacks):
    fitted = {"crowd_temperature": crowd, "crowd_temperature_no_fit": no_fit}
    calibration, logits = replace(CALIBRATION, **fitted), np.random.default_rng(0).normal(size=28)
    labelled = VIEW.assign(**{key: [1 / 7, np.nan, 1 / 7, np.nan] for key in SHARE_COLUMNS})
    reader = SimpleNamespace(logits=lambda *_, **__: logits.reshape(1, 1, 4, 7))
    model = SimpleNamespace(calibration=calibration, teachers=[], inputs=[])
    rows = SimpleNamespace(labelled=labelled, reader=reader)
    labels = label_rows(model, rows, settings=shipped(Export))
    outputs = calibration.apply(logits.reshape(1, 4, 7))
    expected = outputs.calibrated.copy()
    if lacks is None:
        expected[[0, 2]] = outputs.crowd[[0, 2]]
    np.testing.assert_allclose(labels.probabilities, expected)
    np.testing.assert_allclose(labels.top, outputs.calibrated.max(axis=1))
    assert labels.is_crowds.tolist() == [lacks is None, False] * 2
    assert labels.crowd_lacks == lacks
    assert caplog.messages == ([] if lacks is None else [f"{SAID}{lacks}"])


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
    top, crowd_is = expected.max(axis=1), np.array([True, False, False, False])
    # Sharpness is not of the labels themselves but of like faces and temperatures.
    given = RowLabels(expected, crowd_is, None, np.array([0.6, 0.1, 0.1, 0.2]), ("as it is",))
    with caplog.at_level(logging.INFO):
        labels = write_soft_labels(
            tmp_path, VIEW, given, seen={"a", "d"}, held_out=HELD_OUT, settings=settings
        )
    logits = np.load(tmp_path / "softlabels.npz")["logits"]
    assert logits.dtype == (np.float32 if wide else np.float16)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(softmax(logits.astype(np.float64), axis=1), expected, atol=1e-3)
    assert labels.mean_top_probability == pytest.approx(top.mean())
    assert labels.nearly_one_hot is ("nearly one-hot" in caplog.text) is (scale >= 30)
    # The temperature for students is reported and not applied.
    assert labels.distillation_temperature == 4.0
    softened = softmax(np.log(np.maximum(expected, 1e-300)) / 4, axis=1).max(axis=1).mean()
    assert labels.mean_top_probability_distilled == pytest.approx(softened, abs=1e-6)
    words = (
        "0.400 on 2 labelled rows that a teacher has learnt, 0.300 on 9 test rows that none has; "
        "labels of learnt rows are sharper by 0.10: the teachers remember these rows"
    )
    assert words in labels.sharpness_means
    assert labels.sharpness_means in caplog.text
