import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages.calibrating.calibration_file import read_calibration
from stages.exporting.bundle import read_bundle
from stages.runtime.errors import UserError


@pytest.fixture
def models(project, tmp_path):
    return Path(shutil.copytree(project / "models", tmp_path / "models"))


def change(path: Path, keys: str, value: Any) -> None:
    """Set a key of a JSON file, `a/b/c`; None takes it away."""
    content = part = json.loads(path.read_text())
    *parents, last = keys.split("/")
    for key in parents:
        part = part[key]
    part[last] = value
    if value is None:
        del part[last]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("fusion", ["fused_fixed", "fused_searched"])
def test_a_bundle_holds_what_was_fitted_for_the_fusion_that_calibrate_chose(models, fusion):
    change(models / "calibrated" / "calibration.json", "fused_model", fusion)
    bundle = read_bundle(models)
    taken = read_calibration(models / "calibrated").stages["stageB"].models
    assert bundle.ensemble.fit == taken[fusion]
    assert (bundle.ensemble.calibration.weights == (0.7, 0.3)) == (fusion == "fused_fixed")
    assert {name: teacher.fit for name, teacher in bundle.teachers.items()} == {
        name: taken[name] for name in ("RN18", "B3")
    }


B3 = "stages/stageB/models/B3"
FUSED = "stages/stageB/models/fused_fixed"


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (f"{B3}/members/B3/weights_sha256", "e" * 64, r"stageB\.B3: fitted on weights eeeee"),
        (f"{FUSED}/members/B3/weights_sha256", "e" * 64, r"stageB\.B3: fitted on weights eeeee"),
        # The same weights with another `mirror_averaged`: other logits.
        (f"{B3}/members/B3/fingerprint", "e" * 64, r"stageB\.B3: fitted .* of run eeeee"),
        (f"{FUSED}/members/B3/fingerprint", "e" * 64, r"stageB\.B3: fitted .* of run eeeee"),
        ("manifest_sha256", "d" * 64, "manifest_sha256: expected .*…, got dddddddddddd…"),
        (f"{B3}/class_bias", None, r".*class_bias: .*dvc repro calibrate"),
    ],
)
def test_incident_N5_a_calibration_of_another_making_is_refused(models, keys, value, message):
    change(models / "calibrated" / "calibration.json", keys, value)
    with pytest.raises(UserError, match=r"calibration\.json: " + message):
        read_bundle(models)


def test_a_teacher_cannot_take_the_name_of_the_ensemble(models):
    path = models / "calibrated" / "calibration.json"
    path.write_text(path.read_text().replace('"B3"', '"Ensemble"'))
    with pytest.raises(UserError, match=r"teachers\.Ensemble: this name is kept"):
        read_bundle(models)


@pytest.mark.parametrize(
    ("key", "value"),
    [("preprocess.clahe", {"clip_limit": 2.0, "tiles": 4}), ("manifest_sha256", "d" * 64)],
)
def test_incident_X3_teachers_of_different_making_are_refused(models, key, value):
    change(models / "stageB" / "B3" / "teacher.json", key.replace(".", "/"), value)
    with pytest.raises(UserError, match=rf"teacher\.json: {key}: expected the same for all"):
        read_bundle(models)
