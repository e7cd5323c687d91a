import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stages import calibrate
from stages.records.schema import targets_of
from stages.scoring.metrics import score, softmax
from tests.calibrating.run_folder import LOGITS, TRUE_T, build_run_folder, set_calibrate
from tools import evaluate

MODELS = [
    "RN18", "B3", "fused_fixed", "fused_searched", "fused_fixed_logits", "fused_searched_logits",
]  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A project that calibrate has run in; tests only read it."""
    root = build_run_folder(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert calibrate.main([]) == 0
    return root


@pytest.fixture
def copied(done, tmp_path, monkeypatch):
    """The same project for a test of its own, as the current folder."""
    root = tmp_path / "run"
    shutil.copytree(done, root)
    monkeypatch.chdir(root)
    return root


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _bytes(root):
    written = ("metrics", "plots", "models/calibrated")
    files = [path for folder in written for path in (root / folder).rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(files)}


def test_door_writes_everything(done):
    names = ["RN18", "B3", "fused_fixed"]
    curves = {
        f"plots/data/teachers/{kind}/{stage}_{name}.csv"
        for kind in ("reliability", "confusion", "risk_coverage", "mistakes")
        for stage in TRUE_T
        for name in names
    }
    training = {
        f"plots/data/teachers/training/{stage}_{name}.csv" for stage in TRUE_T for name in names[:2]
    }
    sources = {f"plots/data/teachers/sources/{stage}.csv" for stage in TRUE_T}
    assert set(_bytes(done)) == curves | training | sources | {
        "models/calibrated/calibration.json",
        "metrics/teachers.json",
    }


def test_another_process_writes_the_same_bytes_and_needs_no_torch(copied, done):
    for folder in ("metrics", "plots", "models/calibrated"):
        shutil.rmtree(copied / folder)
    code = "import sys; from stages.calibrate import main; main([]); print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(calibrate.__file__).parents[1])}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.strip() == "False"
    assert _bytes(copied) == _bytes(done)


def test_incident_N5_known_temperature_and_the_weights_it_belongs_to(done):
    found = _json(done / "models/calibrated/calibration.json")
    for stage, temperature in TRUE_T.items():
        card = _json(done / f"models/{stage}/RN18/teacher.json")
        teacher = found["stages"][stage]["teachers"]["RN18"]
        assert teacher["temperature"] == pytest.approx(temperature, rel=0.15)
        low, high = teacher["temperature_95"]
        assert low < teacher["temperature"] < high
        assert teacher["weights_sha256"] == card["weights_sha256"]
        assert found["manifest_sha256"] == card["manifest_sha256"]
        fused = found["stages"][stage]["fused"]
        assert fused["fixed"]["weights"] == {"RN18": 0.7, "B3": 0.3}
        assert sum(fused["searched"]["weights"].values()) == pytest.approx(1)
    assert (found["stage"], found["fusion"], found["fitted_on"], found["n"]) == (
        "stageA", "fixed", "val", 480,
    )  # fmt: skip
    assert found["stages"]["stageB"]["teachers"]["RN18"]["fitted_rows"] == 240


def test_numbers_are_those_of_the_test_rows_at_the_temperature_of_calibration_json(done):
    test = pd.read_csv(done / "manifests/classification_manifest.csv").query(
        "split == 'test' and source != 'expw_lq'"
    )
    logits = pd.read_parquet(done / "models/stageA/B3/logits.parquet").set_index("id")
    calibration = _json(done / "models/calibrated/calibration.json")
    temperature = calibration["stages"]["stageA"]["teachers"]["B3"]["temperature"]
    scaled = softmax(logits.loc[test["id"], LOGITS].to_numpy() / temperature)
    expected = score(scaled, targets_of(test), bins=15)
    found = _json(done / "metrics/teachers.json")["stageA"]["B3"]["test"]
    for name in ("accuracy", "macro_f1", "nll", "ece"):
        assert found[name] == pytest.approx(expected[name], abs=2e-6)
    raw, _ = found["scores"]
    assert raw["ece"] > 3 * found["ece"]


def test_incident_N1_stages_are_compared_on_the_same_rows_for_every_model(done):
    found = _json(done / "metrics/teachers.json")
    compared = found["stageB_vs_stageA"]
    assert list(compared) == MODELS
    # Both stages' logits are the same but for their scale, so nothing is left to gain.
    assert compared["RN18"]["test"]["macro_f1_gain"] == pytest.approx(0, abs=0.01)
    assert compared["RN18"]["test"]["nll_change"] == pytest.approx(0, abs=5e-3)
    for entry in compared.values():
        assert (entry["test"]["n"], entry["gates"]["gate"]["n"]) == (240, 710)


def test_auto_takes_the_first_stage_where_nothing_is_gained_and_says_so(done):
    (verdict,) = _json(done / "metrics/teachers.json")["verdict"]
    assert (verdict["stage"], verdict["asked"], verdict["gain_is_real"]) == (
        "stageA",
        "auto",
        False,
    )
    calibration = _json(done / "models/calibrated/calibration.json")
    assert calibration["stage"] == "stageA"
    assert calibration["verdict"] == verdict["says"]


def test_stage_that_is_asked_for_is_taken_and_the_log_says_that_it_gains_nothing(copied, caplog):
    set_calibrate(copied, stage="stageB", fusion="searched_logits")
    with caplog.at_level("INFO"):
        assert calibrate.main([]) == 0
    found = _json(copied / "models/calibrated/calibration.json")
    assert (found["stage"], found["stage_asked"], found["fusion"]) == (
        "stageB", "stageB", "searched_logits",
    )  # fmt: skip
    assert "calibrate.stage says so; the gain of stageB is not real" in caplog.text


def test_crossfit_serves_a_manifest_without_test_rows(tmp_path, monkeypatch, capsys):
    build_run_folder(tmp_path, per_split=60, splits=("train", "val"))
    monkeypatch.chdir(tmp_path)
    assert calibrate.main([]) == 2
    assert "params.yaml: calibrate.report: needs test rows" in capsys.readouterr().err
    assert not (tmp_path / "metrics").exists()
    set_calibrate(tmp_path, report="val_crossfit", bins=10)
    assert calibrate.main([]) == 0
    found = _json(tmp_path / "metrics/teachers.json")
    (about,) = found["stageA"]["RN18"]["val"]["about"]
    assert (about["fitted_on"], about["reported_on"]) == ("val, other 4 of 5 folds", "val")
    assert "test" not in found["stageB_vs_stageA"]["RN18"]
    bins = pd.read_csv(tmp_path / "plots/data/teachers/reliability/stageA_RN18.csv")
    assert (bins["high"] - bins["low"]).round(6).eq(0.1).all()


def test_reported_val_that_is_all_right_is_said_and_stops_nothing(
    tmp_path, monkeypatch, caplog, capsys
):
    build_run_folder(tmp_path, per_split=60)
    monkeypatch.chdir(tmp_path)
    rows = pd.read_csv("manifests/classification_manifest.csv").set_index("id")
    for path in Path("models").glob("*/*/logits.parquet"):
        table = pd.read_parquet(path)
        targets = targets_of(rows.loc[table["id"]])
        val = (rows.loc[table["id"], "split"] == "val").to_numpy()
        logits = table[LOGITS].to_numpy(copy=True)
        logits[val, targets[val]] = logits[val].max(axis=1) + 3
        table[LOGITS] = logits
        table.to_parquet(path, index=False)
    assert calibrate.main([]) == 0
    found = _json(Path("models/calibrated/calibration.json"))
    for stage, n in (("stageA", 120), ("stageB", 60)):
        entries = found["stages"][stage]
        for one in (*entries["teachers"].values(), *entries["fused"].values()):
            assert (one["temperature"], one["temperature_95"]) == (1, None)
            assert one["temperature_no_fit"] == f"the logits are right on each of {n} rows"
            assert one["class_bias"] == [0] * 7
    assert "models/stageB: B3: no fit on val, temperature 1 and no bias: the logits" in caplog.text
    # The crowd does not always choose the label, so its temperature has an optimum.
    assert found["stages"]["stageA"]["teachers"]["RN18"]["votes_temperature_no_fit"] is None
    numbers = _json(Path("metrics/teachers.json"))["stageA"]
    assert numbers["B3"]["test"]["nll"] == numbers["B3"]["test"]["nll_raw"]
    assert numbers["B3"]["test"]["about"][0]["fitted_on"] == "val (no fit: T = 1)"
    by_folds = numbers["B3"]["val"]["about"][0]["fitted_on"]
    assert by_folds == "val, other 4 of 5 folds (no fit in 5 of 5 folds: T = 1)"
    for row in numbers["fused_fixed"]["leave_one_out"]:
        assert [line["fitted_on"] for line in row["about"]] == ["val (no fit: T = 1)"] * 2
    assert evaluate.main(["models/stageB/B3"]) == 0
    printed = capsys.readouterr().out
    assert "temperature 1: no fit, the logits are right on each of 60 rows" in printed
    assert "fitted on val (no fit: T = 1)" in printed


def test_user_problem_leaves_the_old_results_whole(copied, capsys):
    before = _bytes(copied)
    (copied / "models/stageB/B3/logits.parquet").unlink()
    assert calibrate.main([]) == 2
    message = capsys.readouterr().err
    assert "models/stageB/B3/logits.parquet" in message
    assert "Traceback" not in message
    assert _bytes(copied) == before


def test_dvc_would_show_numbers_and_no_tables(done):
    """DVC makes a column of every plain value, and passes over lists."""
    test = _json(done / "metrics/teachers.json")["stageA"]["RN18"]["test"]
    plain = [name for name, value in test.items() if not isinstance(value, list)]
    assert plain == [
        "n",
        "accuracy",
        "macro_f1",
        "nll",
        "nll_raw",
        "ece",
        "ece_floor",
        "classes",
    ]
    found = _json(done / "metrics/teachers.json")
    shown = {key for stage in TRUE_T for model in found[stage].values() for key in _plain(model)}
    assert not {
        key for key in shown if key[0] not in ("temperature", "test", "val", "votes", "gates")
    }
    compared = {key for entry in found["stageB_vs_stageA"].values() for key in _plain(entry)}
    assert {key[-1] for key in compared} == {"n", "in_domain", "macro_f1_gain", "nll_change"}


def _plain(value, path=()):
    for key, entry in value.items():
        if isinstance(entry, dict):
            yield from _plain(entry, (*path, key))
        elif not isinstance(entry, list):
            yield (*path, key)
