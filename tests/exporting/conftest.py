"""One tiny teacher, its ONNX file and one export, shared by all tests that only read them."""

import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import export
from stages.exporting import checks
from stages.exporting.onnx_file import CalibratedModel, to_onnx, write_onnx
from tests.exporting.project import make_project
from tests.exporting.tiny import CALIBRATION, SIZE, describe_tiny, make_teacher


@pytest.fixture(scope="session", autouse=True)
def few_repeats():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_MIN_REPEATS", "_MAX_REPEATS"):
            patch.setattr(checks, name, 1)
        yield


@pytest.fixture(scope="session")
def model():
    return CalibratedModel([make_teacher(seed=1)], calibration=CALIBRATION).eval()


@pytest.fixture(scope="session")
def proto(model):
    return to_onnx(model, image_size=SIZE, opset=18)


@pytest.fixture(scope="session")
def path(proto, tmp_path_factory):
    """The file of `proto`, with its metadata."""
    folder = tmp_path_factory.mktemp("onnx")
    write_onnx(folder / "tiny.onnx", proto, metadata=describe_tiny(folder, crop="box"))
    return folder / "tiny.onnx"


@pytest.fixture(scope="session")
def images():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(40, 3, SIZE, SIZE)).astype(np.float32))


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    make_project(root)
    return root


@pytest.fixture(scope="session")
def exported(project, tmp_path_factory):
    """The project after export."""
    root = Path(shutil.copytree(project, tmp_path_factory.mktemp("exported") / "project"))
    with chdir(root):
        assert export.main([]) == 0
    return root


@pytest.fixture
def fresh(project, tmp_path, monkeypatch):
    """A copy of the project before export, as the current folder."""
    root = Path(shutil.copytree(project, tmp_path / "project"))
    monkeypatch.chdir(root)
    return root
