import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy.special import logsumexp, softmax
from torch import Tensor, nn

from stages.calibrating.calibration import Calibration
from stages.exporting import onnx_file
from stages.exporting.onnx_file import CalibratedModel, lowest_ir_version, to_onnx, write_onnx
from stages.runtime.errors import UserError


class Fixed(nn.Module):
    """Answers with these logits, whatever the images."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[: len(images)]


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(9, 7) * 8, torch.randn(9, 7) * 8


def answer(logits: tuple[Tensor, ...], calibration: Calibration) -> tuple[Tensor, Tensor]:
    model = CalibratedModel([Fixed(each) for each in logits], calibration=calibration)
    return model(torch.empty(9))


def test_a_teacher_is_scaled_by_its_temperature(logits: tuple[Tensor, Tensor]) -> None:
    raw, probabilities = answer(logits[:1], Calibration((1.0,), 2.5))
    assert torch.equal(raw, logits[0])
    np.testing.assert_allclose(probabilities, softmax(logits[0].double() / 2.5, axis=1), atol=1e-6)


def test_the_ensemble_fuses_first_and_scales_then(logits: tuple[Tensor, Tensor]) -> None:
    fused, probabilities = answer(logits, Calibration((0.7, 0.3), 1.6))
    expected = 0.7 * softmax(logits[0].double(), axis=1) + 0.3 * softmax(logits[1].double(), axis=1)
    scaled = expected ** (1 / 1.6)
    np.testing.assert_allclose(fused, np.log(expected), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(probabilities, scaled / scaled.sum(1, keepdims=True), atol=1e-6)


def test_a_mixture_of_logits_and_a_bias_per_class_are_followed(
    logits: tuple[Tensor, Tensor],
) -> None:
    bias = (0.5, -0.5, 0.25, 0.0, 0.0, -0.25, 0.0)
    fused, probabilities = answer(
        logits, Calibration((0.7, 0.3), 1.6, space="logits", class_bias=bias)
    )
    mixed = 0.7 * logits[0].double() + 0.3 * logits[1].double()
    expected = softmax(mixed / 1.6 + torch.tensor(bias, dtype=torch.float64), axis=1)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(
        softmax(fused / 1.6 + torch.tensor(bias), axis=1), probabilities, atol=1e-6
    )


def test_a_class_that_all_teachers_exclude_keeps_a_finite_logit() -> None:
    far = torch.tensor([[0.0, -200.0, 0, 0, 0, 0, 0]])
    fused, _ = answer((far, far), Calibration((0.5, 0.5), 1.0))
    assert fused[0, 1].item() == pytest.approx(-200 - logsumexp([0.0] * 6), rel=1e-6)


def test_a_teacher_without_weight_is_left_out(logits: tuple[Tensor, Tensor]) -> None:
    fused, _ = answer(logits, Calibration((0.0, 1.0), 1.0))
    np.testing.assert_allclose(fused, torch.log_softmax(logits[1], dim=1), atol=1e-5)


def test_input_and_outputs_have_a_free_batch_size(proto: onnx.ModelProto) -> None:
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {
        "image": ["batch", 3, 32, 32], "logits": ["batch", 7], "probabilities": ["batch", 7],
    }  # fmt: skip
    assert {entry.domain: entry.version for entry in proto.opset_import} == {"": 18}


def test_written_metadata_are_json_that_onnxruntime_reads_in_place_of_older_ones(
    tmp_path: Path, proto: onnx.ModelProto
) -> None:
    metadata = {"class_order": ["Überrascht", "b"], "temperature": 1.25, "clahe": None}
    write_onnx(tmp_path / "a.onnx", proto, metadata=metadata)
    write_onnx(tmp_path / "b.onnx", proto, metadata={"temperature": 9})
    write_onnx(tmp_path / "b.onnx", proto, metadata=metadata)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    assert {key: json.loads(value) for key, value in texts.items()} == metadata


def test_incident_D9_no_path_of_this_machine_is_in_the_file(proto: onnx.ModelProto) -> None:
    data = proto.SerializeToString()
    for place in (Path(torch.__file__).parent.parent, Path(__file__).parent):
        assert str(place).encode() not in data
    assert b"stack_trace" not in data


@pytest.mark.parametrize(("opset", "ir_version"), [(18, 8), (20, 9)])
def test_reported_files_carry_the_lowest_ir_version_of_their_opset(
    opset: int, ir_version: int
) -> None:
    # onnxruntime refuses files of a later IR version than its own.
    class Two(nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = image.mean(dim=(2, 3))
            return logits, logits.softmax(1)

    proto = to_onnx(Two(), image_size=8, opset=opset)
    assert (proto.ir_version, proto.opset_import[0].version) == (ir_version, opset)
    assert lowest_ir_version(opset) == ir_version


def test_weights_beyond_one_file_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "_MAX_WEIGHT_BYTES", 100)
    with pytest.raises(UserError, match=r"weights of 1,020 bytes .* at most 100"):
        to_onnx(nn.Linear(50, 5), image_size=8, opset=18)
