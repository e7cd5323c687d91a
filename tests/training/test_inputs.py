"""Where a run takes its initial weights from."""

from pathlib import Path

import pytest
from shipped import PARAMS, shipped

from stages.config import TeacherParams
from stages.runtime.errors import UserError
from stages.training.inputs import find_initial_weights


def test_reported_weights_that_dvc_does_not_see_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights" / "b3.safetensors"
    weights.parent.mkdir()
    weights.touch()
    monkeypatch.chdir(tmp_path)
    params = shipped(TeacherParams, backbone="resnet18", weights="weights/b3.safetensors")
    start = {"stage_params": PARAMS.stageA, "teacher_params": params, "teacher": "B3"}
    assert find_initial_weights(Path("models"), **start).backbone is not None
    (tmp_path / ".dvcignore").write_text("*.safetensors\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"B3.weights: DVC does not see weights/b3.safetensors"):
        find_initial_weights(Path("models"), **start)
