import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from stages.calibrating.calibration import Calibration
from stages.config import Preprocess
from stages.exporting.calibrated import CalibratedTeacher
from stages.exporting.metadata import Cut, describe
from stages.exporting.onnx_file import write_onnx
from stages.exporting.parity import ParityError, check_parity, check_reference
from stages.faces.model_input import to_model_input
from tests.exporting.tiny import SIZE, make_card


class Shifted(nn.Module):
    """The model, off by `shift` in one probability of one row of 32."""

    def __init__(self, model: nn.Module, shift: float) -> None:
        super().__init__()
        self.model = model
        self.shift = shift

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = self.model(image)
        if len(image) == 32:
            probabilities = probabilities.clone()
            probabilities[30, 2] += self.shift
        return logits, probabilities


@pytest.fixture
def path(tmp_path: Path, proto: onnx.ModelProto) -> Path:
    write_onnx(tmp_path / "tiny.onnx", proto, metadata={})
    return tmp_path / "tiny.onnx"


def test_file_and_module_agree_at_every_batch_size(
    path: Path, model: CalibratedTeacher, images: Tensor
) -> None:
    for n in (1, 2, 6, 40):
        report = check_parity(path, model, images[:n], tolerance=1e-4)
        assert report["n"] == n
        assert report["max_abs_diff"] <= 1e-4
        assert report["top_class_changes"] == 0


@pytest.mark.parametrize("shift", [2e-4, -2e-4, float("nan")])
def test_incident_X2_a_difference_fails_the_export(
    path: Path, model: CalibratedTeacher, images: Tensor, shift: float
) -> None:
    with pytest.raises(
        ParityError, match=r"tiny\.onnx: .* on 40 rows; .*parity_tolerance = 0\.0001"
    ):
        check_parity(path, Shifted(model, shift), images, tolerance=1e-4)


def test_incident_X2_other_weights_fail_the_export(
    path: Path, model: CalibratedTeacher, images: Tensor
) -> None:
    other = CalibratedTeacher(model.teacher, calibration=Calibration((1.0,), 1.75)).eval()
    with pytest.raises(ParityError):
        check_parity(path, other, images, tolerance=1e-4)


def test_incident_X3_a_preparation_that_differs_fails_the_export(
    tmp_path: Path, proto: onnx.ModelProto, model: CalibratedTeacher
) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (20, 40, 50, 3), np.uint8)
    faces = [cv2.GaussianBlur(each, (0, 0), 2) for each in noise]
    card = make_card()
    how = Preprocess.model_validate_json(json.dumps(card.preprocess))
    batch = np.stack([to_model_input(face, size=SIZE, preprocess=how) for face in faces])
    images, path = torch.from_numpy(batch), tmp_path / "tiny.onnx"
    cut = Cut(0.3, 512, {"none": 1, "box": 0, "aligned": 0})
    metadata = describe([card], calibration=Calibration((1.0,), 1.7), cut=cut, opset=18)
    write_onnx(path, proto, metadata=metadata)
    found = check_reference(path, model, images, faces=faces)
    assert found["reference_max_abs_diff"] <= 1e-4
    metadata["preprocess"]["clahe"] = None
    write_onnx(path, proto, metadata=metadata)
    with pytest.raises(
        ParityError, match=r"tiny\.onnx: probabilities of reference\.py, by .* on 20"
    ):
        check_reference(path, model, images, faces=faces)
