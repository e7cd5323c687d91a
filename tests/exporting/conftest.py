from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from stages.calibrating.calibration import Calibration
from stages.exporting.calibrated import CalibratedTeacher
from stages.exporting.onnx_file import to_onnx
from stages.modeling.card import TeacherCard
from tests.exporting.tiny import (
    BACKBONES,
    SIZE,
    make_card,
    make_teacher,
    save_tiny_teacher,
    write_calibration,
)


@pytest.fixture(scope="session")
def model() -> CalibratedTeacher:
    return CalibratedTeacher(make_teacher(seed=1), calibration=Calibration((1.0,), 1.7)).eval()


@pytest.fixture(scope="session")
def proto(model: CalibratedTeacher) -> onnx.ModelProto:
    return to_onnx(model, image_size=SIZE, opset=18)


@pytest.fixture(scope="session")
def images() -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(40, 3, SIZE, SIZE)).astype(np.float32))


@pytest.fixture(scope="session")
def card() -> TeacherCard:
    return make_card()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/ with two published teachers and their calibration."""
    folder = tmp_path_factory.mktemp("project") / "models"
    cards = {name: save_tiny_teacher(folder, name, seed=k) for k, name in enumerate(BACKBONES)}
    write_calibration(folder, cards)
    return folder
