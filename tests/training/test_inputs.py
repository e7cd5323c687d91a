"""Where a run takes its initial weights from."""

import sys
from pathlib import Path

import pytest
from shipped import PARAMS, shipped

from stages.config import TeacherParams
from stages.runtime.errors import UserError
from stages.training.inputs import InitialWeights, find_initial_weights

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("project/weights", "disk"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "b3.safetensors").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def start_from(weights: str) -> InitialWeights:
    teacher_params = shipped(TeacherParams, backbone="resnet18", weights=weights)
    return find_initial_weights(
        Path("models"), stage_params=PARAMS.stageA, teacher_params=teacher_params, teacher="B3"
    )


@posix
def test_reported_weights_behind_a_linked_folder_are_refused(project: Path) -> None:
    (project / "weights/linked").symlink_to(project.parent / "disk")
    expected = r"params.yaml: teachers.B3.weights: weights/linked is a linked folder"
    with pytest.raises(UserError, match=expected):
        start_from("weights/linked/b3.safetensors")


def test_reported_weights_that_dvcignore_hides_are_refused(project: Path) -> None:
    (project / ".dvcignore").write_text("*.safetensors\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"B3.weights: DVC does not see weights/b3.safetensors"):
        start_from("weights/b3.safetensors")


@posix
def test_linked_weights_and_a_linked_folder_of_all_weights_are_watched(project: Path) -> None:
    (project / "weights/linked.safetensors").symlink_to(project.parent / "disk/b3.safetensors")
    assert start_from("weights/linked.safetensors").backbone is not None
    (project / "weights").rename(project / "old")
    (project / "weights").symlink_to(project.parent / "disk")
    assert start_from("weights/b3.safetensors").backbone is not None
