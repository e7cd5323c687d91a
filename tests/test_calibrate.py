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
from stages.calibrating.score_table import pick, read_paired, read_scores
from stages.records.schema import targets_of
from tests.calibrating.run_folder import LOGITS, TRUE_T, build_run_folder, set_calibrate
from tools import evaluate

CALIBRATED = Path("models/calibrated")
OUTS = (CALIBRATED, Path("metrics"), Path("plots"))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A project that calibrate has run in."""
    root = build_run_folder(tmp_path_factory.mktemp("run"), per_split=120)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert calibrate.main([]) == 0
    return root


@pytest.fixture
def copied(done, tmp_path, monkeypatch):
    """The same project for a test of its own, as the current folder."""
    shutil.copytree(done, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _bytes(root=Path()):
    files = [path for folder in OUTS for path in (root / folder).rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_another_process_writes_the_same_files_and_needs_no_torch(copied, done):
    curves = {
        f"plots/data/teachers/{kind}/{stage}_{name}.csv"
        for kind in ("reliability", "confusion", "risk_coverage", "mistakes", "training")
        for stage in TRUE_T
        for name in ("RN18", "B3", "fused_fixed")
        if (kind, name) != ("training", "fused_fixed")
    }
    sources = {f"plots/data/teachers/sources/{stage}.csv" for stage in TRUE_T}
    calibrated = {f"{CALIBRATED}/{n}" for n in ("scores.csv", "paired.csv", "calibration.json")}
    assert set(_bytes()) == curves | sources | calibrated | {"metrics/teachers.json"}
    for folder in OUTS:
        shutil.rmtree(folder)
    code = "import sys; from stages.calibrate import main; main([]); print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(calibrate.__file__).parents[1])}
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert process.stdout.strip() == "False"
    assert _bytes() == _bytes(done)


def test_incident_N5_known_temperature_and_the_weights_it_belongs_to(done):
    calibration = read_calibration(done / CALIBRATED)
    for (stage, temperature), n in zip(TRUE_T.items(), (240, 120), strict=True):
        card = _json(done / f"models/{stage}/RN18/teacher.json")
        teacher = calibration.stages[stage].models["RN18"]
        fits = [(teacher.temperature, teacher.temperature_95)]
        if stage == "stageA":  # no row of stage B has votes
            fits.append((teacher.crowd_temperature, teacher.crowd_temperature_95))
        for value, (low, high) in fits:
            assert value == pytest.approx(temperature, rel=0.15)
            assert low < value < high
        assert teacher.crowd_n == {"stageA": 120, "stageB": 0}[stage]
        assert (teacher.fitted_rows, teacher.weights_sha256) == (n, card["weights_sha256"])
        assert calibration.manifest_sha256 == card["manifest_sha256"]
    # Both stages hold the same truth: one of the false gains that the rule allows.
    assert (calibration.stage, calibration.stage_asked) == ("stageB", "auto")
    says = calibration.verdict.says
    assert says.startswith("stageB is taken: the gain of stageB in NLL is real on val."), says


def test_crossfit_serves_a_manifest_without_test_rows(tmp_path, monkeypatch, capsys):
    build_run_folder(tmp_path, per_split=60, splits=("train", "val"))
    monkeypatch.chdir(tmp_path)
    assert calibrate.main([]) == 2
    error = capsys.readouterr().err
    assert "params.yaml: calibrate.report: needs test rows" in error
    assert "set calibrate.report: val_crossfit or give the manifest a test split" in error
    assert _bytes() == {}
    set_calibrate(tmp_path, report="val_crossfit", bins=10)
    assert calibrate.main([]) == 0
    scores = read_scores(CALIBRATED / "scores.csv")
    in_domain = scores[~scores["rows"].str.startswith("gate:")]
    assert (in_domain[["rows", "fitted_on"]] == ["val", "val by folds"]).all(axis=None)
    bins = pd.read_csv("plots/data/teachers/reliability/stageA_RN18.csv")
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
    calibration = read_calibration(CALIBRATED)
    for stage, n in (("stageA", 120), ("stageB", 60)):
        for model in calibration.stages[stage].models.values():
            assert (model.temperature, model.temperature_95) == (1, None)
            assert model.temperature_no_fit == f"the logits are right on each of {n} rows"
            assert model.class_bias == (0,) * 7
            assert "no fit in 5 of 5 folds: T = 1" in model.folds_no_fit
    assert "models/stageB: B3: no fit on val, temperature 1 and no bias: the logits" in caplog.text
    # The crowd does not always choose the label, so its temperature has an optimum.
    assert calibration.stages["stageA"].models["RN18"].crowd_temperature_no_fit is None
    paired = pick(read_paired(CALIBRATED / "paired.csv"), what="stageB-stageA")
    assert set(paired["fitted_on"]) == {
        "val of both stages (no fit: T = 1)",
        "val by folds of both stages (no fit in 5 of 5 folds: T = 1)",
    }
    assert evaluate.main(["models/stageB/B3"]) == 0
    printed = capsys.readouterr().out
    assert "temperature 1: no fit, the logits are right on each of 60 rows" in printed
    assert "val by folds: no fit in 5 of 5 folds: T = 1" in printed


def test_user_problem_leaves_the_old_results_whole(copied, capsys):
    before = _bytes()
    Path("models/stageB/B3/logits.parquet").unlink()
    assert calibrate.main([]) == 2
    assert "models/stageB/B3/logits.parquet" in capsys.readouterr().err
    assert _bytes() == before
