import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.exporting.bundle import read_bundle
from stages.runtime.errors import UserError
from tests.exporting.project import choose_fusion


@pytest.fixture
def models(project: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(project / "models", tmp_path / "models"))


def edit(models: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = models / "calibrated" / "calibration.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_bundle_holds_what_was_fitted_for_the_fusion_that_calibrate_chose(models: Path) -> None:
    fixed = read_bundle(models)
    assert (fixed.fitted.stage, fixed.fitted.fusion) == ("stageB", "fixed")
    assert fixed.ensemble.weights == {"RN18": 0.7, "B3": 0.3}
    assert fixed.ensemble.calibration.temperature == 1.6
    temperatures = {name: m.calibration.temperature for name, m in fixed.teachers.items()}
    assert temperatures == {"RN18": 1.3, "B3": 2.3}
    choose_fusion(models, "searched")
    searched = read_bundle(models)
    assert searched.ensemble.weights == {"RN18": 1.0, "B3": 0.0}
    assert searched.ensemble.calibration.temperature == 1.9


@pytest.mark.parametrize("model", ["B3", "fused_fixed"])
def test_incident_N5_a_calibration_of_other_weights_is_refused(models: Path, model: str) -> None:
    def other(content: dict[str, Any]) -> None:
        fitted = content["stages"]["stageB"]["models"][model]
        fitted["members"]["B3"]["weights_sha256"] = "e" * 64

    edit(models, other)
    with pytest.raises(UserError, match=r"calibration\.json: stageB\.B3: fitted on weights eeeee"):
        read_bundle(models)


def test_incident_N5_a_calibration_of_another_manifest_is_refused(models: Path) -> None:
    edit(models, lambda content: content.update(manifest_sha256="d" * 64))
    with pytest.raises(UserError, match=r"manifest_sha256: expected .*…, got dddddddddddd…"):
        read_bundle(models)


def test_a_calibration_that_is_missing_or_of_an_older_form_names_the_stage_that_makes_it(
    models: Path,
) -> None:
    edit(models, lambda content: content["stages"]["stageB"]["models"]["B3"].pop("class_bias"))
    with pytest.raises(UserError, match=r"calibration\.json: .*class_bias: .*dvc repro calibrate"):
        read_bundle(models)
    (models / "calibrated" / "calibration.json").unlink()
    with pytest.raises(UserError, match=r"models/calibrated/calibration\.json: missing; run"):
        read_bundle(models)


def test_a_teacher_cannot_take_the_name_of_the_ensemble(models: Path) -> None:
    path = models / "calibrated" / "calibration.json"
    path.write_text(path.read_text().replace('"B3"', '"Ensemble"'))
    with pytest.raises(UserError, match=r"teachers\.Ensemble: this name is kept"):
        read_bundle(models)


@pytest.mark.parametrize(
    ("key", "value"),
    [("image_size", 64), ("preprocess", {"clahe": None}), ("manifest_sha256", "d" * 64)],
)
def test_incident_X3_teachers_of_different_making_are_refused(
    models: Path, key: str, value: object
) -> None:
    path = models / "stageB" / "B3" / "teacher.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=rf"teacher\.json: {key}: expected the same for all"):
        read_bundle(models)
