import pytest

from stages.config import Calibrate
from stages.evaluation.assessment import assess, single, stage_models
from stages.evaluation.published import read_manifest_folder, read_teacher
from stages.evaluation.temperature import fit_temperature
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from tests.evaluation.run_folder import SEEN_AT_GATE, build_run_folder

WEIGHTS = {"RN18": 0.7, "B3": 0.3}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = build_run_folder(tmp_path_factory.mktemp("run"))
    manifest = read_manifest_folder(root / "manifests")
    return manifest, [
        read_teacher(root / "models/stageA" / name, manifest=manifest) for name in WEIGHTS
    ]


def _assess(model, manifest, **settings):
    return assess(model, manifest=manifest, settings=Calibrate(weights=WEIGHTS, **settings), seed=7)


def test_incident_N3_fitted_on_val_reported_on_test(published):
    manifest, (teacher, _) = published
    found = _assess(single(teacher), manifest)
    val = manifest.split("val")
    expected = fit_temperature(teacher.logits_of(val), targets_of(val), name="x")
    assert found.calibration.temperature == pytest.approx(expected)
    assert set(found.in_domain.rows["split"]) == {"test"}
    assert (found.in_domain.fitted_on, found.in_domain.reported_on) == ("val", "test")


def test_crossfit_reports_val_and_keeps_the_temperature_of_all_val(published):
    manifest, (teacher, _) = published
    found = _assess(single(teacher), manifest, report="val_crossfit", folds=4)
    assert set(found.in_domain.rows["split"]) == {"val"}
    assert found.in_domain.fitted_on == "val, other 3 of 4 folds"
    whole = _assess(single(teacher), manifest).calibration
    assert found.calibration == whole
    in_sample = whole.apply(single(teacher).members(found.in_domain.rows)).scaled
    assert (found.in_domain.pair.scaled != in_sample).any(axis=1).all()


def test_incident_N4_gate_stands_beside_and_holds_only_rows_without_part_in_it(published):
    manifest, (teacher, _) = published
    gate = _assess(single(teacher), manifest).gates["gate"]
    assert (gate.seen, gate.in_val) == (SEEN_AT_GATE, 240)
    assert len(gate.evidence.rows) == 720 - SEEN_AT_GATE - 240
    assert not teacher.seen(gate.evidence.rows).any()
    assert set(gate.evidence.rows["split"]) == {"train", "test"}


def test_models_of_a_stage_are_its_teachers_and_two_fusions(published):
    manifest, teachers = published
    models = stage_models(teachers, weights=WEIGHTS)
    assert [model.name for model in models] == ["RN18", "B3", "fused_fixed", "fused_searched"]
    fixed, searched = (_assess(model, manifest).calibration.weights for model in models[2:])
    assert fixed == (0.7, 0.3)
    assert sum(searched) == pytest.approx(1)


def test_manifest_without_test_rows_names_the_key_and_the_way_out(tmp_path):
    root = build_run_folder(tmp_path, per_split=60, splits=("train", "val"))
    manifest = read_manifest_folder(root / "manifests")
    model = single(read_teacher(root / "models/stageA/RN18", manifest=manifest))
    with pytest.raises(UserError, match=r"calibrate\.report: needs test rows.*val_crossfit"):
        _assess(model, manifest)
    assert _assess(model, manifest, report="val_crossfit").in_domain.reported_on == "val"
