import dataclasses

import numpy as np
import pytest

from stages.calibrating.calibration import Resampling
from stages.calibrating.predictions import (
    fit_model,
    fusion,
    predict_held_out,
    report_model,
    single,
    stage_models,
)
from stages.calibrating.published import read_teacher
from stages.calibrating.stage_rows import stage_rows
from stages.records.folder import LOGIT_COLUMNS, read_folder
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.scoring.metrics import score
from stages.scoring.temperature import fit_temperature, one_hot
from tests.calibrating.conftest import WEIGHTS
from tests.calibrating.run_folder import SEEN_AT_GATE, TRUE_T, build_run_folder

RESAMPLING = Resampling("test", bins=15, folds=5, bootstrap_samples=50, seed=7)
TRAINED_ON = "the row or a copy of it was trained on"


def _rows(manifest, teacher):
    return stage_rows(manifest, rows=teacher.filter, stage=teacher.stage, started_from={})


def _fit(manifest, teacher, **changes):
    """Fit and report one teacher."""
    rows, resampling = _rows(manifest, teacher), dataclasses.replace(RESAMPLING, **changes)
    fitted = fit_model(single(teacher), val=rows.val, resampling=resampling)
    return fitted, report_model(fitted, rows=rows, resampling=resampling)


def test_incident_N3_fitted_on_val_of_the_stage_and_reported_on_its_test(read):
    manifest, teachers = read
    teacher = teachers["stageB"][0]
    fitted, reported = _fit(manifest, teacher)
    rows = manifest.rows
    val = rows[(rows["split"] == "val") & (rows["source"] == "rafdb_basic")]
    expected = fit_temperature(teacher.logits_of(val), one_hot(targets_of(val))).value
    assert fitted.calibration.temperature == pytest.approx(expected)
    assert list(reported) == ["test", "gate:gate"]
    test = reported["test"].unseen
    assert set(test.rows["split"]) == {"test"}
    assert set(test.rows["source"]) == {"rafdb_basic"}
    assert (test.fitted_on, test.place) == ("val", "test")


def test_known_temperature_comes_back_for_labels_and_votes_with_their_intervals(read):
    manifest, teachers = read
    fitted, _ = _fit(manifest, teachers["stageA"][0])
    for temperature, (low, high) in (
        (fitted.calibration.temperature, fitted.temperature_95),
        (fitted.calibration.votes_temperature, fitted.votes_temperature_95),
    ):
        assert low < temperature < high
        assert temperature == pytest.approx(TRUE_T["stageA"], rel=0.15)
    assert (len(fitted.val.frame), fitted.votes_n) == (240, 120)
    without, _ = _fit(manifest, teachers["stageB"][0])
    assert (without.votes_temperature_95, without.votes_n) == (None, 0)


def test_reported_fold_without_a_fit_is_warned_about_by_its_calibration(read, caplog):
    """All rows but one are right: the folds beside that row's fit no temperature, all of val does."""
    manifest, teachers = read
    teacher = teachers["stageB"][0]
    table = teacher.logits.copy()
    targets = targets_of(manifest.rows.set_index("id").loc[table.index])
    logits = table[list(LOGIT_COLUMNS)].to_numpy(copy=True)
    logits[np.arange(len(table)), targets] = logits.max(axis=1) + 3
    wrong = table.index.get_loc("rafdb_basic/val0003")
    logits[wrong] = np.roll(logits[wrong], 1)
    table[list(LOGIT_COLUMNS)] = logits
    fitted, _ = _fit(manifest, dataclasses.replace(teacher, logits=table))
    assert fitted.calibration.temperature_no_fit is None
    assert fitted.folds_no_fit == "no fit in 1 of 5 folds: T = 1"
    assert "models/stageB: RN18: val by folds: no fit in 1 of 5 folds: T = 1" in caplog.text


def test_crossfit_reports_val_and_keeps_the_temperature_of_all_val(read):
    manifest, teachers = read
    teacher = teachers["stageA"][0]
    fitted, reported = _fit(manifest, teacher, report="val_crossfit", folds=4)
    assert list(reported) == ["val", "gate:gate"]
    assert reported["val"] is fitted.held_out
    assert fitted.held_out.fitted_on == "val by folds"
    whole, _ = _fit(manifest, teacher)
    assert fitted.calibration.temperature == whole.calibration.temperature


def test_incident_N3_every_model_has_the_val_scores_that_fusion_is_chosen_by(read, studied):
    manifest, teachers = read
    rows = _rows(manifest, teachers["stageA"][0])
    table = studied.scores[
        (studied.scores["stage"] == "stageA") & (studied.scores["rows"] == "val")
    ]
    for model in stage_models(teachers["stageA"], weights=WEIGHTS):
        held_out, _ = predict_held_out(model, rows.val, resampling=RESAMPLING)
        expected = score(held_out.probabilities.calibrated, held_out.targets, bins=15)
        scores = table[(table["model"] == model.name) & (table["by"] == "all")].set_index("metric")
        assert list(scores.index) == ["accuracy", "macro_f1", "nll", "classes"]
        assert set(scores["fitted_on"]) == {"val by folds"}
        for metric in ("accuracy", "macro_f1", "nll"):
            row = scores.loc[metric]
            assert row["low"] <= row["value"] <= row["high"]
            assert row["value"] == pytest.approx(expected[metric])
        fitted = fit_model(model, val=rows.val, resampling=RESAMPLING)
        in_sample = fitted.calibration.apply(model.predict(rows.val)).calibrated
        assert (in_sample != held_out.probabilities.calibrated).any(axis=1).all()


def test_incident_N4_gate_stands_beside_and_holds_only_rows_without_part_in_it(read):
    manifest, teachers = read
    teacher = teachers["stageA"][0]
    gate = _fit(manifest, teacher)[1]["gate:gate"]
    assert list(gate.left_out.values()) == [0, SEEN_AT_GATE]
    assert len(gate.unseen.rows) == 360 - SEEN_AT_GATE
    assert len(gate.rows) == 360
    assert not teacher.seen(gate.unseen.rows).any()


def test_rows_that_were_trained_on_are_neither_fitted_nor_reported_on(read):
    manifest, teachers = read
    teacher = teachers["stageA"][0]
    seen = teacher.logits.index.str.contains("ferplus/(?:val|test)00[0-4]")
    learnt = dataclasses.replace(teacher, logits=teacher.logits.assign(seen=seen))
    fitted, reported = _fit(manifest, learnt)
    assert fitted.val.left_out == {TRAINED_ON: 50}
    assert not fitted.val.frame["id"].str.contains("ferplus/val00[0-4]").any()
    test = reported["test"]
    assert (len(test.unseen.rows), len(test.rows)) == (240 - 50, 240)
    assert test.left_out == {TRAINED_ON: 50}


def test_models_of_a_stage_are_its_teachers_and_four_fusions(read):
    manifest, teachers = read
    models = stage_models(teachers["stageA"], weights=WEIGHTS)
    fusions = ["fused_fixed", "fused_searched", "fused_fixed_logits", "fused_searched_logits"]
    assert [model.name for model in models] == ["RN18", "B3", *fusions]
    val = _rows(manifest, teachers["stageA"][0]).val
    for model in models[2:]:
        fitted = fit_model(model, val=val, resampling=RESAMPLING).calibration
        assert sum(fitted.weights) == pytest.approx(1)
        assert fitted.space == ("logits" if "logits" in model.name else "probabilities")
        if "fixed" in model.name:
            assert fitted.weights == (0.7, 0.3)


@pytest.mark.parametrize("kind", ["searched", "searched_logits"])
def test_incident_N3_weights_are_searched_on_val_alone(read, kind):
    manifest, teachers = read
    is_test = manifest.rows["split"] == "test"
    labels = manifest.rows["label"].where(~is_test, np.roll(manifest.rows["label"], 1))
    turned = dataclasses.replace(manifest, rows=manifest.rows.assign(label=labels))
    model = fusion(teachers["stageA"], kind=kind, weights=(0.7, 0.3))
    results = []
    for rows in (_rows(each, teachers["stageA"][0]) for each in (manifest, turned)):
        fitted = fit_model(model, val=rows.val, resampling=RESAMPLING)
        test = report_model(fitted, rows=rows, resampling=RESAMPLING)["test"]
        results.append((fitted.calibration, test.targets))
    assert results[0][0] == results[1][0]
    assert (results[0][1] != results[1][1]).any()


def test_manifest_without_test_rows_names_the_key_and_the_way_out(tmp_path):
    root = build_run_folder(tmp_path, per_split=60, splits=("train", "val"))
    manifest = read_folder(root / "manifests")
    teacher = read_teacher(root / "models/stageA/RN18", manifest=manifest)
    with pytest.raises(UserError, match=r"calibrate\.report: needs test rows.*val_crossfit"):
        _fit(manifest, teacher)


def test_gate_over_all_of_val_takes_no_row_to_fit_on(read):
    manifest, teachers = read
    scored = manifest.rows[manifest.rows["split"] != "train"]
    everything = dataclasses.replace(manifest, gates={"all": scored})
    fitted, reported = _fit(everything, teachers["stageA"][0])
    assert len(fitted.val.frame) == 240
    assert not set(reported["gate:all"].unseen.rows["id"]) & set(fitted.val.frame["id"])


def test_val_of_fewer_groups_than_folds_has_no_scores_by_folds(read):
    manifest, teachers = read
    rows = manifest.rows
    one_group = rows.assign(group=rows["group"].mask(rows["split"] == "val", "g"))
    few = dataclasses.replace(manifest, rows=one_group)
    fitted, _ = _fit(few, teachers["stageB"][1])
    assert fitted.held_out.rows.empty
    with pytest.raises(UserError, match=r"calibrate\.folds"):
        _fit(few, teachers["stageB"][1], report="val_crossfit")
