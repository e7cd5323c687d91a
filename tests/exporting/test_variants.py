import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from torch import Tensor

from stages.exporting.calibrated import CalibratedTeacher
from stages.exporting.onnx_file import write_onnx
from stages.exporting.parity import torch_probabilities
from stages.exporting.session import open_session, run_session
from stages.exporting.variants import VARIANTS, to_fp16


@pytest.mark.parametrize(("name", "limit", "share"), [("fp16", 2e-3, 0.6), ("int8", 0.05, 0.6)])
def test_a_variant_is_smaller_and_answers_nearly_the_same(
    tmp_path: Path,
    proto: onnx.ModelProto,
    model: CalibratedTeacher,
    images: Tensor,
    name: str,
    limit: float,
    share: float,
) -> None:
    write_onnx(tmp_path / "full.onnx", proto, metadata={"temperature": 1.7})
    write_onnx(tmp_path / "small.onnx", VARIANTS[name](proto), metadata={"temperature": 1.7})
    session = open_session(tmp_path / "small.onnx", threads=1)
    difference = np.abs(run_session(session, images.numpy()) - torch_probabilities(model, images))
    assert 0 < difference.max() <= limit
    size, full = ((tmp_path / f"{each}.onnx").stat().st_size for each in ("small", "full"))
    assert size < share * full
    shapes = [(value.name, value.type, value.shape[0]) for value in session.get_inputs()]
    assert shapes == [("image", "tensor(float)", "batch")]
    assert session.get_modelmeta().custom_metadata_map == {"temperature": "1.7"}


def test_the_quantizer_floods_no_log(
    proto: onnx.ModelProto, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        VARIANTS["int8"](proto)
        logging.getLogger("stages").info("heard again")
    assert caplog.messages == ["heard again"]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_model_gives_the_same_bytes_and_stays_as_it_was(
    proto: onnx.ModelProto, name: str
) -> None:
    before = proto.SerializeToString(deterministic=True)
    first, second = (VARIANTS[name](proto).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert proto.SerializeToString(deterministic=True) == before


def test_the_head_stays_in_single_precision(proto: onnx.ModelProto) -> None:
    # By its types: onnxruntime's CPU kernels would widen half floats and hide what a GPU shows.
    graph = to_fp16(proto).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types.values()
    narrow = {name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT16}
    for node in graph.node:
        if node.op_type == "Cast":
            narrow |= set(node.output) if node.attribute[0].i == onnx.TensorProto.FLOAT16 else set()
        elif node.op_type != "Shape" and narrow & set(node.input):
            narrow |= set(node.output)
    beyond = False
    for node in graph.node:
        beyond = beyond or node.op_type == "ReduceL2"
        if beyond and node.op_type not in ("Shape", "Concat", "Reshape"):
            assert not narrow & {*node.input, *node.output}, node.name
    assert beyond


def test_logits_are_finer_than_half_precision(proto: onnx.ModelProto, images: Tensor) -> None:
    data = to_fp16(proto).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    logits, probabilities = session.run(["logits", "probabilities"], {"image": images.numpy()})
    for found in (logits, probabilities):
        assert (found.astype(np.float16).astype(np.float32) != found).mean() > 0.5
