"""One tiny teacher, its ONNX file and one export, shared by all tests that only read them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from stages import export
from stages.calibrating.calibration import Calibration
from stages.exporting import checks
from stages.exporting.metadata import Cut, describe
from stages.exporting.onnx_file import CalibratedModel, to_onnx, write_onnx
from tests.exporting.project import copy_before_export, make_project
from tests.exporting.tiny import SIZE, make_card, make_teacher


@pytest.fixture(scope="session")
def model() -> CalibratedModel:
    return CalibratedModel([make_teacher(seed=1)], calibration=Calibration((1.0,), 1.7)).eval()


@pytest.fixture(scope="session")
def proto(model: CalibratedModel) -> onnx.ModelProto:
    return to_onnx(model, image_size=SIZE, opset=18)


@pytest.fixture(scope="session")
def path(proto: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `proto`, with its metadata."""
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    cut = Cut(0.3, 100, {"none": 0, "box": 3, "aligned": 0})
    calibration = Calibration((1.0,), 1.7)
    metadata = describe([make_card()], calibration=calibration, cut=cut, opset=18)
    write_onnx(path, proto, metadata=metadata)
    return path


@pytest.fixture(scope="session")
def images() -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(40, 3, SIZE, SIZE)).astype(np.float32))


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    make_project(root)
    return root


@pytest.fixture(scope="session")
def exported(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after export."""
    root = tmp_path_factory.mktemp("exported") / "project"
    copy_before_export(project, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_MIN_REPEATS", 1)
        patch.setattr(checks, "_MAX_REPEATS", 1)
        patch.chdir(root)
        assert export.main([]) == 0
    return root


@pytest.fixture
def fresh(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project before export, as the current folder."""
    copy_before_export(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    for name in ("_MIN_REPEATS", "_MAX_REPEATS"):
        monkeypatch.setattr(checks, name, 1)
    return tmp_path / "project"
