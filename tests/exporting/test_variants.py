"""A variant must be what its name says, whatever is inside the backbone."""

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import Tensor

from stages.calibrating.calibration import Calibration
from stages.exporting.checks import torch_probabilities
from stages.exporting.onnx_file import (
    HEAD,
    CalibratedModel,
    open_session,
    run_session,
    to_onnx,
    write_onnx,
)
from stages.exporting.variants import VARIANTS, SizeError, require_smaller, to_fp16
from stages.modeling.teacher import Teacher
from tests.exporting.tiny import SIZE, make_teacher

# Small forms of backbones that take L2 norms of their own features (ConvNeXt V2, XCiT), and of one
# that computes its weights anew in each run.
BACKBONES = {
    "convnextv2": ("test_convnext", {"use_grn": True}),
    "xcit": ("xcit_nano_12_p8_224", {"depth": 1, "cls_attn_layers": 1, "embed_dim": 64}),
    "nfnet": ("test_nfnet", {}),
}


@pytest.mark.parametrize(("name", "limit"), [("fp16", 2e-3), ("int8", 0.05)])
def test_a_variant_is_smaller_and_answers_nearly_the_same(
    tmp_path: Path,
    proto: onnx.ModelProto,
    model: CalibratedModel,
    images: Tensor,
    name: str,
    limit: float,
) -> None:
    full, small = tmp_path / "full.onnx", tmp_path / "small.onnx"
    write_onnx(full, proto, metadata={"temperature": 1.7})
    write_onnx(small, VARIANTS[name](proto), metadata={"temperature": 1.7})
    session = open_session(small, threads=1)
    difference = np.abs(run_session(session, images.numpy()) - torch_probabilities(model, images))
    assert 0 < difference.max() <= limit
    require_smaller(name, small, full=full)
    assert small.stat().st_size < 0.6 * full.stat().st_size
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
    for values in session.run(["logits", "probabilities"], {"image": images.numpy()}):
        assert (values.astype(np.float16).astype(np.float32) != values).mean() > 0.5


def teacher_of(name: str) -> Teacher:
    model, options = BACKBONES[name]
    torch.manual_seed(0)
    backbone = timm.create_model(model, num_classes=0, **options)
    return Teacher(
        backbone, num_features=backbone.num_features, embedding_size=16, dropout=0.0, scale=30.0
    ).eval()


def proto_of(*teachers: Teacher) -> onnx.ModelProto:
    weights = (1 / len(teachers),) * len(teachers)
    model = CalibratedModel(list(teachers), calibration=Calibration(weights, 1.7))
    return to_onnx(model.eval(), image_size=SIZE, opset=18)


@pytest.fixture(scope="module")
def convnextv2() -> onnx.ModelProto:
    return proto_of(teacher_of("convnextv2"))


def half_share(proto: onnx.ModelProto) -> float:
    """The share of half floats in the bytes of the weights."""
    sizes: dict[int, int] = {}
    for tensor in proto.graph.initializer:
        size = onnx.numpy_helper.to_array(tensor).nbytes
        sizes[tensor.data_type] = sizes.get(tensor.data_type, 0) + size
    return sizes[onnx.TensorProto.FLOAT16] / sum(sizes.values())


@pytest.mark.parametrize("name", ["convnextv2", "xcit"])
def test_reported_fp16_of_a_backbone_with_norms_of_its_own_is_half_as_large(
    name: str, convnextv2: onnx.ModelProto
) -> None:
    proto = convnextv2 if name == "convnextv2" else proto_of(teacher_of(name))
    lengths = [node.name for node in proto.graph.node if node.op_type == "ReduceL2"]
    assert any(not length.startswith(HEAD) for length in lengths)
    small = VARIANTS["fp16"](proto)
    assert half_share(small) > 0.9
    assert small.ByteSize() < 0.6 * proto.ByteSize()


def test_reported_fp16_of_an_ensemble_is_half_as_large() -> None:
    # The second backbone must not count as what follows from the first one's head.
    proto = proto_of(make_teacher(seed=1), teacher_of("convnextv2"))
    assert half_share(VARIANTS["fp16"](proto)) > 0.9


@pytest.mark.parametrize(("name", "variant"), [("convnextv2", "fp16"), ("nfnet", "int8")])
def test_incident_X6_variant_that_saves_nothing_is_refused(
    tmp_path: Path, convnextv2: onnx.ModelProto, name: str, variant: str
) -> None:
    # The quantizer really finds few weights in an NFNet. fp16 files were so before they were mended.
    proto = convnextv2 if name == "convnextv2" else proto_of(teacher_of(name))
    full, small = tmp_path / "B3.onnx", tmp_path / f"B3.{variant}.onnx"
    write_onnx(full, proto, metadata={})
    write_onnx(small, VARIANTS["int8"](proto) if name == "nfnet" else proto, metadata={})
    with pytest.raises(SizeError, match=rf"B3\.{variant}\.onnx: .* are (1\.0|0\.8)0 of B3\.onnx"):
        require_smaller(variant, small, full=full)
