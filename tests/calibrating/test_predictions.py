import dataclasses

import numpy as np
import pytest

from stages.calibrating.calibration import Resampling
from stages.calibrating.predictions import (
    TRAINED_ON,
    fit_model,
    predict_held_out,
    report_model,
    single,
    stage_models,
)
from stages.calibrating.published import stage_rows
from stages.records.folder import LOGIT_COLUMNS
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.scoring.metrics import score
from stages.scoring.temperature import fit_temperature, one_hot
from tests.calibrating.conftest import RESAMPLING, SETTINGS, WEIGHTS
from tests.calibrating.run_folder import SEEN_AT_GATE


def _fit(manifest, teacher, **settings):
    """Fit and report one teacher."""
    rows = stage_rows(manifest, rows=teacher.filter, stage=teacher.stage, started_from={})
    resampling = Resampling(SETTINGS.model_copy(update=settings), 7)
    fitted = fit_model(single(teacher), val=rows.val, resampling=resampling)
    return fitted, report_model(fitted, rows=rows, resampling=resampling)


def test_incident_N3_fitted_on_val_of_the_stage_and_reported_on_its_test(read):
    manifest, teachers = read
    teacher, rows = teachers["stageB"][0], manifest.rows
    fitted, reported = _fit(manifest, teacher)
    val = rows[(rows["split"] == "val") & (rows["source"] == "rafdb_basic")]
    expected = fit_temperature(teacher.logits_of(val), one_hot(targets_of(val))).value
    assert fitted.fit.temperature == pytest.approx(expected)
    assert list(reported) == ["test", "gate:gate"]
    test = reported["test"].unseen
    assert set(test.rows["split"]) == {"test"}
    assert set(test.rows["source"]) == {"rafdb_basic"}
    assert (test.fitted_on, test.place) == ("val", "test")
    assert (fitted.fit.crowd_temperature_95, fitted.fit.crowd_n) == (None, 0)


def test_reported_fold_without_a_fit_is_warned_about_by_its_calibration(read, caplog):
    """All rows but one are right: the folds beside that row's fit no temperature, all of val does."""
    manifest, teachers = read
    table = teachers["stageB"][0].logits.copy()
    targets = targets_of(manifest.rows.set_index("id").loc[table.index])
    logits = table[list(LOGIT_COLUMNS)].to_numpy(copy=True)
    logits[np.arange(len(table)), targets] = logits.max(axis=1) + 3
    wrong = table.index.get_loc("rafdb_basic/val0003")
    logits[wrong] = np.roll(logits[wrong], 1)
    table[list(LOGIT_COLUMNS)] = logits
    fitted, _ = _fit(manifest, dataclasses.replace(teachers["stageB"][0], logits=table))
    assert fitted.fit.temperature_no_fit is None
    assert fitted.fit.folds_no_fit == "no fit in 1 of 5 folds: T = 1"
    assert "models/stageB: RN18: val by folds: no fit in 1 of 5 folds: T = 1" in caplog.text


def test_crossfit_reports_val_and_keeps_the_temperature_of_all_val(read):
    manifest, teachers = read
    fitted, reported = _fit(manifest, teachers["stageA"][0], report="val_crossfit")
    assert list(reported) == ["val", "gate:gate"]
    assert reported["val"] is fitted.held_out
    whole, _ = _fit(manifest, teachers["stageA"][0])
    assert fitted.fit.temperature == whole.fit.temperature


def test_incident_N3_every_model_has_the_val_scores_that_fusion_is_chosen_by(read, studied):
    manifest, teachers = read
    first = teachers["stageA"][0]
    rows = stage_rows(manifest, rows=first.filter, stage="stageA", started_from={})
    table = studied.scores.query("stage == 'stageA' and rows == 'val' and by == 'all'")
    models = stage_models(teachers["stageA"], weights=WEIGHTS)
    fusions = ["fused_fixed", "fused_searched", "fused_fixed_logits", "fused_searched_logits"]
    assert [model.name for model in models] == ["RN18", "B3", *fusions]
    for model in models:
        held_out, _ = predict_held_out(model, rows.val, resampling=RESAMPLING)
        expected = score(held_out.outputs.calibrated, held_out.targets, bins=15)
        scores = table[(table["model"] == model.name) & (table["probabilities"] == "calibrated")]
        scores = scores.set_index("metric")
        assert set(scores["fitted_on"]) == {"val by folds"}
        for metric in ("accuracy", "macro_f1", "nll"):
            assert scores.loc[metric, "value"] == pytest.approx(expected[metric])
        fit = studied.calibration.stages["stageA"].models[model.name]
        in_sample = fit.calibration.apply(model.logits(rows.val)).calibrated
        assert (in_sample != held_out.outputs.calibrated).any(axis=1).all()
        if "fixed" in model.name:
            assert fit.calibration.weights == (0.7, 0.3)
        assert fit.space == ("logits" if "logits" in model.name else "probabilities")


def test_incident_N4_gate_stands_beside_and_holds_only_rows_without_part_in_it(read):
    manifest, teachers = read
    gate = _fit(manifest, teachers["stageA"][0])[1]["gate:gate"]
    assert list(gate.left_out.values()) == [0, SEEN_AT_GATE]
    assert (len(gate.rows), len(gate.unseen.rows)) == (360, 360 - SEEN_AT_GATE)
    assert not teachers["stageA"][0].seen(gate.unseen.rows).any()


def test_rows_that_were_trained_on_are_neither_fitted_nor_reported_on(read):
    manifest, teachers = read
    teacher = teachers["stageA"][0]
    seen = teacher.logits.index.str.contains("ferplus/(?:val|test)00[0-4]")
    learnt = dataclasses.replace(teacher, logits=teacher.logits.assign(seen=seen))
    fitted, reported = _fit(manifest, learnt)
    assert fitted.fit.left_out == reported["test"].left_out == {TRAINED_ON: 50}
    for kept in (fitted.val.frame, reported["test"].unseen.rows):
        assert len(kept) == 240 - 50
        assert not kept["id"].str.contains("ferplus/(?:val|test)00[0-4]").any()


@pytest.mark.parametrize("kind", ["fused_searched", "fused_searched_logits"])
def test_incident_N3_weights_are_searched_on_val_alone(read, kind, studied):
    manifest, teachers = read
    is_val = manifest.rows["split"] == "val"
    labels = manifest.rows["label"].where(is_val, np.roll(manifest.rows["label"], 1))
    turned = dataclasses.replace(manifest, rows=manifest.rows.assign(label=labels))
    models = stage_models(teachers["stageA"], weights=WEIGHTS)
    (model,) = (model for model in models if model.name == kind)
    rows = stage_rows(turned, rows=model.teachers[0].filter, stage="stageA", started_from={})
    fitted = fit_model(model, val=rows.val, resampling=RESAMPLING)
    assert fitted.fit == studied.calibration.stages["stageA"].models[kind]


def test_val_of_fewer_groups_than_folds_has_no_scores_by_folds(read):
    manifest, teachers = read
    rows = manifest.rows
    one_group = rows.assign(group=rows["group"].mask(rows["split"] == "val", "g"))
    few = dataclasses.replace(manifest, rows=one_group)
    assert _fit(few, teachers["stageB"][1])[0].held_out.rows.empty
    with pytest.raises(UserError, match=r"calibrate\.folds: 5 folds need as many .*, found 1"):
        _fit(few, teachers["stageB"][1], report="val_crossfit")
