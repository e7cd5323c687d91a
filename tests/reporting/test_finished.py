import json
import shutil

import pandas as pd
import pytest

from stages.reporting.finished import read_finished
from stages.runtime.errors import UserError
from tests.reporting.project import read_json


@pytest.fixture
def copied(root, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(root, folder)
    return folder


def _change(path, change):
    value = read_json(path)
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def test_a_run_is_read_by_its_verdict(run):
    assert run.shown == ["fused_fixed", "RN18", "B3"]
    assert (run.stage, run.places) == ("stageA", ["test", "gate:gate"])
    table = run.scores.set_index(["stage", "model", "rows", "by", "probabilities", "metric"])
    expected = table.loc[("stageA", "fused_fixed", "test", "all", "calibrated", "nll"), "value"]
    assert run.score("nll").value == expected.item()


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("models/calibrated/calibration.json", "calibrate"),
        ("models/calibrated/scores.csv", "calibrate"),
        ("metrics/manifest.json", "manifest"),
        ("models/export/parity.json", "export"),
        ("models/export/hash_manifest.json", "export"),
        ("models/stageB/B3/teacher.json", "stageB"),
        ("models/stageA/RN18/environment.json", "stageA"),
        ("manifests/warnings.csv", "manifest"),
    ],
)
def test_missing_input_is_an_error_that_names_file_and_stage(copied, path, stage):
    (copied / path).unlink()
    with pytest.raises(UserError, match=f"{path}: expected a file.* the {stage} stage makes it"):
        read_finished(copied)


def test_incident_N5_numbers_of_other_weights_are_refused(copied):
    card = copied / "models/stageA/B3/teacher.json"
    _change(card, lambda values: values.update(weights_sha256="f" * 64))
    with pytest.raises(UserError) as error:
        read_finished(copied)
    calibrated, exported, _ = str(error.value).splitlines()
    said = "stageA B3: weights_sha256: expected ffff"
    assert calibrated.startswith(f"models/calibrated/calibration.json: {said}")
    assert exported.startswith(f"models/export/hash_manifest.json: {said}")


def test_incident_N6_numbers_of_another_manifest_are_refused(copied):
    hashes = {"classification_manifest": "0" * 64}
    _change(copied / "metrics/manifest.json", lambda m: m["manifest"].update(sha256=hashes))
    with pytest.raises(UserError, match=r"metrics/manifest.json: manifest_sha256: expected"):
        read_finished(copied)


@pytest.mark.parametrize("file", ["hash_manifest", "parity"])
def test_export_of_another_stage_is_refused(copied, file):
    _change(copied / f"models/export/{file}.json", lambda values: values.update(stage="stageB"))
    expected = r"expected stageA, which models/calibrated/calibration.json takes, got stageB"
    with pytest.raises(UserError, match=f"{file}.json: stage: {expected}"):
        read_finished(copied)


def test_incident_N8_a_number_that_is_missing_is_an_error_that_names_it(copied):
    path = copied / "models/calibrated/scores.csv"
    table = pd.read_csv(path, keep_default_na=False)
    table[(table["model"] != "B3") | (table["metric"] != "brier")].to_csv(path, index=False)
    run = read_finished(copied)
    with pytest.raises(UserError, match=r"scores.csv: .*brier .*'B3'.*; run the calibrate stage"):
        run.score("brier", model="B3")
