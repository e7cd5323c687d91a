import dataclasses

import numpy as np
import pytest

from stages.calibrating.assessment import assess
from stages.calibrating.model import fusion, single, stage_models
from stages.calibrating.protocol import Protocol
from stages.calibrating.published import read_manifest_folder, read_teacher
from stages.calibrating.stage_rows import stage_rows
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.scoring.temperature import fit_temperature, one_hot
from tests.calibrating.conftest import WEIGHTS
from tests.calibrating.run_folder import LOGITS, SEEN_AT_GATE, TRUE_T, build_run_folder

PROTOCOL = Protocol("test", bins=15, folds=5, bootstrap_samples=50, seed=7)


def _rows(manifest, teacher):
    return stage_rows(manifest, rows=teacher.filter, stage=teacher.stage, started_from={})


def _assess(manifest, teacher, **changes):
    rows = _rows(manifest, teacher)
    return assess(single(teacher), rows=rows, protocol=dataclasses.replace(PROTOCOL, **changes))


def test_incident_N3_fitted_on_val_of_the_stage_and_reported_on_its_test(read):
    manifest, teachers = read
    teacher = teachers["stageB"][0]
    found = _assess(manifest, teacher)
    rows = manifest.rows
    val = rows[(rows["split"] == "val") & (rows["source"] == "rafdb_basic")]
    expected = fit_temperature(teacher.logits_of(val), one_hot(targets_of(val))).value
    assert found.calibration.temperature == pytest.approx(expected)
    assert set(found.in_domain.rows["split"]) == {"test"}
    assert set(found.in_domain.rows["source"]) == {"rafdb_basic"}
    assert (found.in_domain.fitted_on, found.in_domain.reported_on) == ("val", "test")
    assert found.in_domain.weights_sha256 == (teacher.weights_sha256,)


def test_known_temperature_comes_back_for_labels_and_votes_with_their_intervals(read):
    manifest, teachers = read
    found = _assess(manifest, teachers["stageA"][0])
    calibration, intervals = found.calibration, found.intervals
    for temperature, (low, high) in (
        (calibration.temperature, intervals.majority),
        (calibration.votes_temperature, intervals.votes),
    ):
        assert low < temperature < high
        assert temperature == pytest.approx(TRUE_T["stageA"], rel=0.15)
    assert _assess(manifest, teachers["stageB"][0]).intervals.votes is None


def test_reported_fold_without_a_fit_is_warned_about_by_its_calibration(read, caplog):
    """All rows but one are right: the folds beside that row's fit no temperature, all of val does."""
    manifest, teachers = read
    teacher = teachers["stageB"][0]
    table = teacher.logits.copy()
    targets = targets_of(manifest.rows.set_index("id").loc[table.index])
    logits = table[LOGITS].to_numpy(copy=True)
    logits[np.arange(len(table)), targets] = logits.max(axis=1) + 3
    wrong = table.index.get_loc("rafdb_basic/val0003")
    logits[wrong] = np.roll(logits[wrong], 1)
    table[LOGITS] = logits
    sure = dataclasses.replace(teacher, logits=table)
    found = _assess(manifest, sure)
    assert found.calibration.temperature_no_fit is None
    assert "models/stageB: RN18: val by folds (no fit in 1 of 5 folds: T = 1)" in caplog.text


def test_crossfit_reports_val_and_keeps_the_temperature_of_all_val(read):
    manifest, teachers = read
    found = _assess(manifest, teachers["stageA"][0], report="val_crossfit", folds=4)
    assert set(found.in_domain.rows["split"]) == {"val"}
    assert found.in_domain.fitted_on == "val, other 3 of 4 folds"
    whole = _assess(manifest, teachers["stageA"][0]).calibration
    assert found.calibration.temperature == whole.temperature
    in_sample = whole.apply(found.model.members(found.val)).scaled
    assert (found.in_domain.pair.scaled != in_sample).any(axis=1).all()


def test_incident_N4_gate_stands_beside_and_holds_only_rows_without_part_in_it(read):
    manifest, teachers = read
    teacher = teachers["stageA"][0]
    gate = _assess(manifest, teacher).gates["gate"]
    assert list(gate.left_out.values()) == [0, SEEN_AT_GATE]
    assert len(gate.evidence.rows) == 360 - SEEN_AT_GATE
    assert len(gate.whole.rows) == 360
    assert not teacher.seen(gate.evidence.rows).any()


def test_rows_that_were_trained_on_are_neither_fitted_nor_reported_on(read):
    manifest, teachers = read
    teacher = teachers["stageA"][0]
    ids = teacher.logits.index
    seen = ids.str.contains("ferplus/(?:val|test)00[0-4]")
    learnt = dataclasses.replace(teacher, logits=teacher.logits.assign(seen=seen))
    found = _assess(manifest, learnt)
    assert found.val.left_out["the row or a copy of it was trained on"] == 50
    assert not found.val.rows["id"].str.contains("ferplus/val00[0-4]").any()
    assert len(found.in_domain.rows) == 240 - 50
    assert len(found.reported.whole.rows) == 240
    assert found.reported.left_out == {"the row or a copy of it was trained on": 50}


def test_models_of_a_stage_are_its_teachers_and_four_fusions(read):
    manifest, teachers = read
    models = stage_models(teachers["stageA"], weights=WEIGHTS)
    assert [model.name for model in models] == [
        "RN18", "B3", "fused_fixed", "fused_searched", "fused_fixed_logits",
        "fused_searched_logits",
    ]  # fmt: skip
    rows = _rows(manifest, teachers["stageA"][0])
    for model in models[2:]:
        found = assess(model, rows=rows, protocol=PROTOCOL).calibration
        assert sum(found.weights) == pytest.approx(1)
        assert found.space == ("logits" if "logits" in model.name else "probabilities")
        if "fixed" in model.name:
            assert found.weights == (0.7, 0.3)


def test_incident_N3_weights_are_searched_on_val_alone(read):
    manifest, teachers = read
    rows = _rows(manifest, teachers["stageA"][0])
    is_test = manifest.rows["split"] == "test"
    turned = manifest.rows.assign(
        label=manifest.rows["label"].where(~is_test, np.roll(manifest.rows["label"], 1))
    )
    changed = dataclasses.replace(manifest, rows=turned)
    for kind in ("searched", "searched_logits"):
        model = fusion(teachers["stageA"], kind=kind, weights=(0.7, 0.3))
        first = assess(model, rows=rows, protocol=PROTOCOL)
        second = assess(model, rows=_rows(changed, teachers["stageA"][0]), protocol=PROTOCOL)
        assert first.calibration == second.calibration
        assert (first.in_domain.targets != second.in_domain.targets).any()


def test_manifest_without_test_rows_names_the_key_and_the_way_out(tmp_path):
    root = build_run_folder(tmp_path, per_split=60, splits=("train", "val"))
    manifest = read_manifest_folder(root / "manifests")
    teacher = read_teacher(root / "models/stageA/RN18", manifest=manifest)
    with pytest.raises(UserError, match=r"calibrate\.report: needs test rows.*val_crossfit"):
        _assess(manifest, teacher)
    found = _assess(manifest, teacher, report="val_crossfit")
    assert found.in_domain.reported_on == "val"


def test_gate_over_all_of_val_takes_no_row_to_fit_on(read):
    manifest, teachers = read
    scored = manifest.rows[manifest.rows["split"] != "train"]
    everything = dataclasses.replace(manifest, gates={"all": scored})
    found = _assess(everything, teachers["stageA"][0])
    assert len(found.val.rows) == 240
    assert not set(found.gates["all"].evidence.rows["id"]) & set(found.val.rows["id"])
