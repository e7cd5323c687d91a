import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stages import calibrate
from stages.calibrating.calibration_file import read_calibration
from stages.calibrating.score_table import number, pick, read_paired, read_scores
from stages.records.schema import targets_of
from stages.scoring.metrics import score, softmax
from tests.calibrating.run_folder import LOGITS, TRUE_T, build_run_folder, set_calibrate
from tools import evaluate


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
    curves = {
        f"plots/data/teachers/{kind}/{stage}_{name}.csv"
        for kind in ("reliability", "confusion", "risk_coverage", "mistakes", "training")
        for stage in TRUE_T
        for name in ("RN18", "B3", "fused_fixed")
        if (kind, name) != ("training", "fused_fixed")
    }
    sources = {f"plots/data/teachers/sources/{stage}.csv" for stage in TRUE_T}
    calibrated = {f"models/calibrated/{name}" for name in ("scores.csv", "paired.csv")}
    assert set(_bytes(done)) == curves | sources | calibrated | {
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
    calibration = read_calibration(done / "models/calibrated")
    for stage, temperature in TRUE_T.items():
        card = _json(done / f"models/{stage}/RN18/teacher.json")
        models = calibration.stages[stage].models
        teacher = models["RN18"]
        assert teacher.temperature == pytest.approx(temperature, rel=0.15)
        low, high = teacher.temperature_95
        assert low < teacher.temperature < high
        assert teacher.weights_sha256 == card["weights_sha256"]
        assert calibration.manifest_sha256 == card["manifest_sha256"]
        assert models["fused_fixed"].calibration.weights == (0.7, 0.3)
        assert sum(models["fused_searched"].calibration.weights) == pytest.approx(1)
    assert (calibration.stage, calibration.fusion, calibration.fitted_on) == (
        "stageA", "fixed", "val",
    )  # fmt: skip
    fitted_rows = [calibration.stages[stage].models["RN18"].fitted_rows for stage in TRUE_T]
    assert fitted_rows == [480, 240]


def test_numbers_are_those_of_the_test_rows_at_the_temperature_of_calibration_json(done):
    test = pd.read_csv(done / "manifests/classification_manifest.csv").query(
        "split == 'test' and source != 'expw_lq'"
    )
    logits = pd.read_parquet(done / "models/stageA/B3/logits.parquet").set_index("id")
    calibration = read_calibration(done / "models/calibrated")
    temperature = calibration.stages["stageA"].models["B3"].temperature
    scaled = softmax(logits.loc[test["id"], LOGITS].to_numpy() / temperature)
    expected = score(scaled, targets_of(test), bins=15)
    metrics = _json(done / "metrics/teachers.json")["stageA"]["B3"]
    for name in ("accuracy", "macro_f1", "nll", "ece"):
        assert metrics[name] == pytest.approx(expected[name], abs=2e-6)
    scores = read_scores(done / "models/calibrated/scores.csv")
    about = {"stage": "stageA", "model": "B3", "rows": "test", "by": "all"}
    assert number(scores, "ece", probabilities="raw", **about).value > 3 * metrics["ece"]


def test_incident_N1_stages_are_compared_on_the_same_rows_for_every_model(done):
    table = pick(read_paired(done / "models/calibrated/paired.csv"), what="stageB-stageA", by="all")
    assert table["model"].unique().tolist() == ["RN18", "B3", "fused_fixed"]
    # Both stages' logits are the same but for their scale, so nothing is left to gain.
    gain = pick(table, model="RN18", rows="test")
    assert number(gain, "macro_f1").value == pytest.approx(0, abs=0.01)
    assert number(gain, "nll").value == pytest.approx(0, abs=5e-3)
    assert set(pick(table, rows="test")["n"]) == {240}
    assert set(pick(table, rows="gate:gate")["n"]) == {710}


def test_auto_takes_the_first_stage_where_nothing_is_gained_and_says_so(done):
    calibration = read_calibration(done / "models/calibrated")
    verdict = calibration.verdict
    assert (calibration.stage, calibration.stage_asked) == ("stageA", "auto")
    assert not verdict.gain_is_real
    assert verdict.says.startswith("stageA is taken: the gain of stageB is not real on val.")
    metrics = _json(done / "metrics/teachers.json")
    assert (metrics["taken"], metrics["model"]) == ("stageA", "fused_fixed")


def test_stage_that_is_asked_for_is_taken_and_the_log_says_that_it_gains_nothing(copied, caplog):
    set_calibrate(copied, stage="stageB", fusion="searched_logits")
    with caplog.at_level("INFO"):
        assert calibrate.main([]) == 0
    found = read_calibration(copied / "models/calibrated")
    assert (found.stage, found.stage_asked, found.fusion, found.fused_model) == (
        "stageB", "stageB", "searched_logits", "fused_searched_logits",
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
    scores = read_scores(tmp_path / "models/calibrated/scores.csv")
    in_domain = scores[~scores["rows"].str.startswith("gate:")]
    assert in_domain[["rows", "fitted_on"]].drop_duplicates().to_numpy().tolist() == [
        ["val", "val by folds"]
    ]
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
    calibration = read_calibration(Path("models/calibrated"))
    for stage, n in (("stageA", 120), ("stageB", 60)):
        for model in calibration.stages[stage].models.values():
            assert (model.temperature, model.temperature_95) == (1, None)
            assert model.temperature_no_fit == f"the logits are right on each of {n} rows"
            assert model.class_bias == (0,) * 7
            assert "no fit in 5 of 5 folds: T = 1" in model.folds_no_fit
    assert "models/stageB: B3: no fit on val, temperature 1 and no bias: the logits" in caplog.text
    # The crowd does not always choose the label, so its temperature has an optimum.
    assert calibration.stages["stageA"].models["RN18"].votes_temperature_no_fit is None
    scores = read_scores(Path("models/calibrated/scores.csv"))
    about = {"stage": "stageA", "model": "B3", "rows": "test", "by": "all"}
    raw, calibrated = (
        number(scores, "nll", probabilities=p, **about) for p in ("raw", "calibrated")
    )
    assert raw == calibrated
    paired = pick(read_paired(Path("models/calibrated/paired.csv")), what="stageB-stageA")
    assert set(paired["fitted_on"]) == {
        "val of both stages (no fit: T = 1)",
        "val by folds of both stages (no fit in 5 of 5 folds: T = 1)",
    }
    assert evaluate.main(["models/stageB/B3"]) == 0
    printed = capsys.readouterr().out
    assert "temperature 1: no fit, the logits are right on each of 60 rows" in printed
    assert "val by folds: no fit in 5 of 5 folds: T = 1" in printed


def test_user_problem_leaves_the_old_results_whole(copied, capsys):
    before = _bytes(copied)
    (copied / "models/stageB/B3/logits.parquet").unlink()
    assert calibrate.main([]) == 2
    message = capsys.readouterr().err
    assert "models/stageB/B3/logits.parquet" in message
    assert "Traceback" not in message
    assert _bytes(copied) == before
