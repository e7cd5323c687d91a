import json

import pytest

from stages import calibrate, evaluate
from tests.evaluation.run_folder import build_run_folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return build_run_folder(tmp_path_factory.mktemp("run"), per_split=60)


def test_incident_N6_same_numbers_as_calibrate(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    assert calibrate.main([]) == 0
    assert evaluate.main(["models/stageB/B3", "--out", "found.json"]) == 0
    found = json.loads((root / "found.json").read_text())
    card = json.loads((root / "models/stageB/B3/teacher.json").read_text())
    assert (found.pop("stage"), found.pop("teacher")) == ("stageB", "B3")
    assert found.pop("manifest_sha256") == card["manifest_sha256"]
    metrics = json.loads((root / "metrics/teachers.json").read_text())
    assert found == metrics["stageB"]["B3"]
    printed = capsys.readouterr().out
    assert printed.startswith(f"stageB B3, weights {card['weights_sha256'][:12]}\n")
    assert f"{found['test']['accuracy']:.3f} [" in printed


def test_unknown_teacher_is_the_users_problem(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    assert evaluate.main(["models/stageA/RN81"]) == 2
    assert "models/stageA/RN81/teacher.json: expected a file" in capsys.readouterr().err
