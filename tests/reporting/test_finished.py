import json
import shutil

import pytest

from stages.reporting.finished import in_domain, read_finished
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
    assert run.shown == ["RN18", "B3", "fused_fixed"]
    assert run.best is run.numbers["stageA"]["fused_fixed"]
    assert in_domain(run.best) is run.best["test"]


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("metrics/teachers.json", "calibrate"),
        ("metrics/manifest.json", "manifest"),
        ("metrics/export.json", "export"),
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


@pytest.mark.parametrize("kind", ["reliability", "confusion", "risk_coverage", "mistakes"])
def test_missing_table_of_a_picture_is_an_error(copied, kind):
    path = copied / f"plots/data/teachers/{kind}/stageA_RN18.csv"
    path.unlink()
    with pytest.raises(UserError, match=f"{kind}/stageA_RN18.csv: expected a file"):
        read_finished(copied).table(kind, "stageA_RN18")


def test_incident_N5_numbers_of_other_weights_are_refused(copied):
    _change(
        copied / "models/stageA/B3/teacher.json", lambda card: card.update(weights_sha256="f" * 64)
    )
    with pytest.raises(UserError) as error:
        read_finished(copied)
    lines = str(error.value).splitlines()
    assert lines[0].startswith("metrics/teachers.json: stageA B3: weights_sha256: expected ffff")
    assert lines[1].startswith("models/export/hash_manifest.json: stageA B3: weights_sha256")


def test_incident_N6_numbers_of_another_manifest_are_refused(copied):
    files = copied / "metrics/manifest.json"
    _change(
        files, lambda m: m["manifest"]["files"]["classification_manifest"].update(sha256="0" * 64)
    )
    with pytest.raises(UserError, match=r"metrics/manifest.json: files: manifest_sha256: expected"):
        read_finished(copied)


def test_export_of_another_stage_is_refused(copied):
    _change(
        copied / "metrics/export.json",
        lambda m: m["export"].update(stageB=m["export"].pop("stageA")),
    )
    with pytest.raises(
        UserError, match=r"expected stageA, which metrics/teachers.json takes, got stageB"
    ):
        read_finished(copied)


def test_incident_N8_a_number_that_is_missing_is_an_error_that_names_it(copied):
    path = copied / "metrics/teachers.json"
    _change(path, lambda m: m["stageA"]["B3"]["test"]["scores"][1].pop("brier"))
    with pytest.raises(
        UserError, match=r"teachers.json: stageA.B3.test.scores.1.brier: Field required"
    ):
        read_finished(copied)
