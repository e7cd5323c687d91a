import shutil

import pandas as pd
import pytest

from stages.reporting.finished import read_finished
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, write_json

CALIBRATION = "models/calibrated/calibration.json"


@pytest.fixture
def copied(root, tmp_path):
    return shutil.copytree(root, tmp_path / "run")


def _refusal(folder, path, **values):
    """Change a JSON file of a run, and return the lines of what reading it then says."""
    write_json(folder / path, read_json(folder / path) | values)
    with pytest.raises(UserError) as error:
        read_finished(folder)
    return str(error.value).splitlines()


def test_a_run_is_read_by_its_verdict(run):
    assert run.shown == ["fused_fixed", "RN18", "B3"]
    assert (run.stage, run.places) == ("stageA", ["test", "gate:gate"])
    table = run.scores.set_index(["stage", "model", "rows", "by", "probabilities", "metric"])
    expected = table.loc[("stageA", "fused_fixed", "test", "all", "calibrated", "nll"), "value"]
    assert run.score("nll").value == expected.item()


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        (CALIBRATION, "calibrate"),
        ("models/calibrated/scores.csv", "calibrate"),
        ("metrics/manifest.json", "manifest"),
        ("models/export/parity.json", "export"),
        ("plots/seeds.csv", "git checkout"),
        ("models/stageA/RN18/environment.json", "stageA"),
    ],
)
def test_missing_input_is_an_error_that_names_file_and_stage(copied, path, stage):
    (copied / path).unlink()
    with pytest.raises(UserError, match=f"^{path}: .*{stage}"):
        read_finished(copied)


@pytest.mark.parametrize(
    ("key", "files"),
    [
        ("weights_sha256", [CALIBRATION, "models/export/hash_manifest.json"]),
        ("fingerprint", [CALIBRATION]),
    ],
)
def test_incident_N5_numbers_of_other_weights_or_of_another_run_are_refused(copied, key, files):
    path = "models/stageA/B3/teacher.json"
    lines = _refusal(copied, path, **{key: "e" * 64})
    said = f"stageA B3: {key}: expected eeeeeeeeeeee ({path}), got "
    assert [line.split(said)[0] for line in lines] == [
        *(f"{file}: " for file in files),
        "run `dvc repro`",
    ]


FILES = ["metrics/manifest", "models/export/hash_manifest", "models/export/parity"]


@pytest.mark.parametrize("file", FILES)
def test_incident_N6_numbers_of_another_manifest_or_stage_are_refused(copied, file):
    manifest = {"sha256": {"classification_manifest": "0" * 64}}
    said, *_ = _refusal(copied, f"{file}.json", manifest=manifest, stage="stageB")
    key, got = ("manifest_sha256", "0" * 12) if file == "metrics/manifest" else ("stage", "stageB")
    assert said.startswith(f"{file}.json: {key}: expected ")
    assert said.endswith(f"({CALIBRATION}), got {got}")


def test_incident_N8_a_number_that_is_missing_is_an_error_that_names_it(copied):
    path = copied / "models/calibrated/scores.csv"
    table = pd.read_csv(path, keep_default_na=False)
    table[(table["model"] != "B3") | (table["metric"] != "brier")].to_csv(path, index=False)
    run = read_finished(copied)
    with pytest.raises(UserError, match=r"scores.csv: .*brier .*'B3'.*; run the calibrate stage"):
        run.score("brier", model="B3")
