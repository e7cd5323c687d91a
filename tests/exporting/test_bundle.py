import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from stages.exporting.bundle import read_bundle
from stages.runtime.errors import UserError
from tests.exporting.tiny import choose_fusion


@pytest.fixture
def copy(tmp_path: Path, models: Path) -> Path:
    return Path(shutil.copytree(models, tmp_path / "models"))


def edit(models: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = models / "calibrated" / "calibration.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_a_bundle_holds_what_was_fitted_for_the_fusion_that_calibrate_chose(copy: Path) -> None:
    fixed = read_bundle(copy)
    assert (fixed.stage, fixed.fusion) == ("stageB", "fixed")
    assert fixed.weights == {"RN18": 0.7, "B3": 0.3}
    assert fixed.calibration.temperature == 1.6
    temperatures = {name: m.calibration.temperature for name, m in fixed.members.items()}
    assert temperatures == {"RN18": 1.3, "B3": 2.3}
    choose_fusion(copy, "searched")
    searched = read_bundle(copy)
    assert searched.weights == {"RN18": 1.0, "B3": 0.0}
    assert searched.calibration.temperature == 1.9


def test_probabilities_are_fused_first_and_scaled_then(models: Path) -> None:
    bundle = read_bundle(models)
    first, second = np.random.default_rng(0).normal(size=(2, 9, 7)) * 4
    fused = 0.7 * softmax(first, axis=1) + 0.3 * softmax(second, axis=1)
    expected = softmax(np.log(fused) / 1.6, axis=1)
    np.testing.assert_allclose(bundle.probabilities([first, second]), expected, atol=1e-12)


def test_a_mixture_of_logits_with_a_bias_per_class_is_followed(copy: Path) -> None:
    choose_fusion(copy, "fixed_logits")
    first, second = np.random.default_rng(0).normal(size=(2, 9, 7)) * 4
    bias = np.array([0.3, -0.2, 0.1, 0.0, -0.1, -0.2, 0.1])
    expected = softmax((0.7 * first + 0.3 * second) / 1.2 + bias, axis=1)
    # Without the constant that turns logits into log-probabilities the bias would meet others.
    np.testing.assert_allclose(
        read_bundle(copy).probabilities([first, second]), expected, atol=1e-9
    )


def test_incident_N5_a_calibration_of_other_weights_is_refused(copy: Path) -> None:
    def other(found: dict[str, Any]) -> None:
        found["stages"]["stageB"]["teachers"]["B3"]["weights_sha256"] = "e" * 64

    edit(copy, other)
    with pytest.raises(UserError, match=r"calibration\.json: stageB\.B3: fitted on weights eeeee"):
        read_bundle(copy)


def test_incident_N5_a_calibration_of_another_manifest_is_refused(copy: Path) -> None:
    edit(copy, lambda found: found.update(manifest_sha256="d" * 64))
    with pytest.raises(UserError, match=r"manifest_sha256: expected .* aaaaaaaaaaaa…, got ddd"):
        read_bundle(copy)


def test_a_missing_calibration_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"models/calibrated/calibration\.json: missing; run"):
        read_bundle(tmp_path)


def test_a_calibration_of_an_older_form_is_refused(copy: Path) -> None:
    edit(copy, lambda found: found["stages"]["stageB"]["fused"]["fixed"].pop("class_bias"))
    with pytest.raises(UserError, match=r"calibration\.json: 'class_bias' is missing; run"):
        read_bundle(copy)


def test_a_teacher_cannot_take_the_name_of_the_ensemble(copy: Path) -> None:
    path = copy / "calibrated" / "calibration.json"
    path.write_text(path.read_text().replace('"B3"', '"Ensemble"'))
    with pytest.raises(UserError, match=r"teachers\.Ensemble: this name is kept"):
        read_bundle(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [("image_size", 64), ("preprocess", {"clahe": None}), ("manifest_sha256", "d" * 64)],
)
def test_incident_X3_teachers_of_different_making_are_refused(
    copy: Path, key: str, value: object
) -> None:
    path = copy / "stageB" / "B3" / "teacher.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=rf"teacher\.json: {key}: expected the same for all"):
        read_bundle(copy)
