import dataclasses

import pytest

from stages.config import Calibrate
from stages.evaluation.assessment import assess, single
from stages.evaluation.published import read_manifest_folder, read_teacher
from stages.evaluation.report import model_json, stages_json
from tests.evaluation.run_folder import TRUE_T, build_run_folder

SETTINGS = Calibrate(weights={"RN18": 1.0}, bootstrap_samples=50)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = build_run_folder(tmp_path_factory.mktemp("run"), per_split=60)
    manifest = read_manifest_folder(root / "manifests")
    return manifest, [
        read_teacher(root / "models" / stage / "RN18", manifest=manifest) for stage in TRUE_T
    ]


def _assess(teacher, manifest):
    return assess(single(teacher), manifest=manifest, settings=SETTINGS, seed=7)


def test_incident_N4_gate_stands_beside_the_in_domain_number(published):
    manifest, (teacher, _) = published
    found = model_json(_assess(teacher, manifest), settings=SETTINGS, seed=7)
    assert set(found) == {"temperature", "test", "gates", "members"}
    gate = found["gates"]["gate"]
    assert [row["rows"] for row in gate["left_out"]] == [10, 60]
    assert gate["n"] == gate["scores"][0]["n"] == 180 - 10 - 60
    assert gate["scores"][1]["reported_on"] == "gate"


def test_gate_without_an_unseen_row_has_no_numbers_and_a_warning(published, caplog):
    manifest, (first, second) = published
    everything = dataclasses.replace(first, logits=first.logits.assign(seen=True))
    assessments = [_assess(teacher, manifest) for teacher in (everything, second)]
    found = model_json(assessments[0], settings=SETTINGS, seed=7)["gates"]["gate"]
    assert (found["n"], found["left_out"][0]["rows"]) == (0, 180)
    assert "scores" not in found
    assert "gate gate: stageA RN18: no row is left" in caplog.text
    compared = stages_json(assessments, settings=SETTINGS, seed=7)["RN18"]
    assert compared["gates"]["gate"] == {"n": 0}
    assert compared["test"]["n"] == 180


def test_members_carry_the_hash_of_their_weights(published):
    manifest, (teacher, _) = published
    members = model_json(_assess(teacher, manifest), settings=SETTINGS, seed=7)["members"]
    assert members == [{"teacher": "RN18", "weight": 1.0, "weights_sha256": teacher.weights_sha256}]
