import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from stages.exporting import onnx_file
from stages.exporting.onnx_file import lowest_ir_version, to_onnx, write_onnx
from stages.runtime.errors import UserError


def test_input_and_outputs_have_a_free_batch_size(proto: onnx.ModelProto) -> None:
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {
        "image": ["batch", 3, 32, 32], "logits": ["batch", 7], "probabilities": ["batch", 7],
    }  # fmt: skip
    assert {entry.domain: entry.version for entry in proto.opset_import} == {"": 18}


def test_the_metadata_is_json_that_onnxruntime_reads(
    tmp_path: Path, proto: onnx.ModelProto
) -> None:
    metadata = {"class_order": ["Überrascht", "b"], "temperature": 1.25, "clahe": None}
    write_onnx(tmp_path / "a.onnx", proto, metadata=metadata)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    assert {key: json.loads(value) for key, value in found.items()} == metadata


def test_writing_again_replaces_the_metadata_and_repeats_the_bytes(
    tmp_path: Path, proto: onnx.ModelProto
) -> None:
    write_onnx(tmp_path / "a.onnx", proto, metadata={"temperature": 1.25})
    write_onnx(tmp_path / "b.onnx", proto, metadata={"temperature": 9})
    write_onnx(tmp_path / "b.onnx", proto, metadata={"temperature": 1.25})
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


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
