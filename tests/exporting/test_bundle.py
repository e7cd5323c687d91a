import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from stages.exporting.bundle import read_bundle
from stages.runtime.errors import UserError


def test_a_bundle_holds_weights_and_temperatures_of_the_chosen_fusion(models: Path) -> None:
    fixed = read_bundle(models, stage="stageB", fusion="fixed")
    assert fixed.weights == {"RN18": 0.7, "B3": 0.3}
    assert fixed.temperature == 1.6
    assert {name: m.temperature for name, m in fixed.members.items()} == {"RN18": 1.3, "B3": 2.3}
    searched = read_bundle(models, stage="stageB", fusion="searched")
    assert searched.weights == {"RN18": 1.0, "B3": 0.0}
    assert searched.temperature == 1.9


def test_probabilities_are_fused_first_and_scaled_then(models: Path) -> None:
    bundle = read_bundle(models, stage="stageB", fusion="fixed")
    first, second = np.random.default_rng(0).normal(size=(2, 9, 7)) * 4
    fused = 0.7 * softmax(first, axis=1) + 0.3 * softmax(second, axis=1)
    expected = softmax(np.log(fused) / 1.6, axis=1)
    np.testing.assert_allclose(bundle.probabilities([first, second]), expected, atol=1e-12)


def test_incident_N5_a_calibration_of_other_weights_is_refused(
    tmp_path: Path, models: Path
) -> None:
    shutil.copytree(models, tmp_path / "models")
    path = tmp_path / "models" / "calibrated" / "calibration.json"
    calibration = json.loads(path.read_text())
    calibration["stages"]["stageB"]["teachers"]["B3"]["weights_sha256"] = "e" * 64
    path.write_text(json.dumps(calibration))
    with pytest.raises(UserError, match=r"calibration\.json: stageB\.B3: fitted on weights eeeee"):
        read_bundle(tmp_path / "models", stage="stageB", fusion="fixed")


def test_a_missing_calibration_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"models/calibrated/calibration\.json: missing; run"):
        read_bundle(tmp_path, stage="stageB", fusion="fixed")


def test_a_teacher_cannot_take_the_name_of_the_ensemble(tmp_path: Path, models: Path) -> None:
    shutil.copytree(models, tmp_path / "models")
    path = tmp_path / "models" / "calibrated" / "calibration.json"
    path.write_text(path.read_text().replace('"B3"', '"Ensemble"'))
    with pytest.raises(UserError, match=r"teachers\.Ensemble: this name is kept"):
        read_bundle(tmp_path / "models", stage="stageB", fusion="fixed")


@pytest.mark.parametrize(
    ("key", "value"),
    [("image_size", 64), ("preprocess", {"clahe": None}), ("manifest_sha256", "d" * 64)],
)
def test_incident_X3_teachers_of_different_making_are_refused(
    tmp_path: Path, models: Path, key: str, value: object
) -> None:
    shutil.copytree(models, tmp_path / "models")
    path = tmp_path / "models" / "stageB" / "B3" / "teacher.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=rf"teacher\.json: {key}: expected the same for all"):
        read_bundle(tmp_path / "models", stage="stageB", fusion="fixed")
