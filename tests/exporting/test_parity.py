from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from stages.exporting.calibrated import CalibratedTeacher
from stages.exporting.onnx_file import write_onnx
from stages.exporting.parity import ParityError, check_parity, measure_latency


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
    other = CalibratedTeacher(model.teacher, temperature=1.75).eval()
    with pytest.raises(ParityError):
        check_parity(path, other, images, tolerance=1e-4)


def test_latency_is_reported_for_both_with_threads(
    path: Path, model: CalibratedTeacher, images: Tensor
) -> None:
    threads = torch.get_num_threads()
    report = measure_latency(path, model, images[:3])
    (setting,) = report["latency_setting"]
    assert setting["threads"] == 1
    assert torch.get_num_threads() == threads
    for size in (1, 32):
        assert report["latency_ms"][f"onnx_batch_{size}"] > 0
        assert report["latency_ms"][f"torch_batch_{size}"] > 0
        assert setting[f"repeats_batch_{size}"] >= 3
