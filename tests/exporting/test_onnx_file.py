"""ONNX files of calibrated models; a variant is what its name says, whatever the backbone."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from scipy.special import logsumexp, softmax
from torch import Tensor, nn

from stages.calibrating.calibration import Calibration
from stages.exporting import onnx_file
from stages.exporting.checks import torch_answers
from stages.exporting.onnx_file import (
    HEAD,
    VARIANTS,
    CalibratedModel,
    open_session,
    run_session,
    to_onnx,
    write_onnx,
    write_variant,
)
from stages.modeling.teacher import Teacher
from stages.runtime.errors import UserError
from stages.scoring.temperature import NO_BIAS
from tests.exporting.tiny import BIAS, CALIBRATION, PRIORS, SHARES, SIZE, make_teacher


class Fixed(nn.Module):
    """Answers with these logits, whatever the images."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[: len(images)]


TWO = (PRIORS["RN18"], PRIORS["B3"])


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration((1.0,), TWO[:1], 2.5, SHARES),
        Calibration((0.7, 0.3), TWO, 1.6, SHARES),
        Calibration((0.0, 1.0), TWO, 1.6, SHARES, exponent=0.6),
        Calibration((0.7, 0.3), TWO, 1.6, SHARES, "logits", BIAS, exponent=1.0),
    ],
)
def test_teachers_are_corrected_and_fused_first_then_scaled_and_decided(calibration):
    torch.manual_seed(0)
    logits = torch.randn(len(calibration.weights), 99, 7) * 4
    model = CalibratedModel([Fixed(each) for each in logits], calibration=calibration)
    raw, probabilities, labels = model(torch.empty(99))
    outputs = calibration.apply(logits.double().numpy())
    np.testing.assert_allclose(probabilities, outputs.calibrated, atol=1e-6)
    np.testing.assert_array_equal(labels, outputs.named)
    is_argmax = (labels == probabilities.argmax(dim=1)).all()
    assert is_argmax == (calibration.exponent == 0)
    scaled = softmax(raw.numpy() / calibration.temperature + calibration.class_bias, axis=1)
    np.testing.assert_allclose(scaled, probabilities, atol=1e-6)
    if len(logits) == 1:
        assert torch.equal(raw, logits[0] + torch.tensor(PRIORS["RN18"]))


def test_a_class_that_all_teachers_exclude_keeps_a_finite_logit():
    far = Fixed(torch.tensor([[0.0, -200.0, 0, 0, 0, 0, 0]]))
    calibration = Calibration((0.5, 0.5), (NO_BIAS, NO_BIAS), 1.0, SHARES)
    fused, *_ = CalibratedModel([far, far], calibration=calibration)(torch.empty(1))
    assert fused[0, 1].item() == pytest.approx(-200 - logsumexp([0.0] * 6), rel=1e-6)


def test_incident_D9_no_path_of_this_machine_is_in_the_file(proto):
    data = proto.SerializeToString()
    for place in (Path(torch.__file__).parent.parent, Path(__file__).parent):
        assert str(place).encode() not in data
    assert b"stack_trace" not in data


@pytest.mark.parametrize(("opset", "ir_version"), [(18, 8), (20, 9)])
def test_reported_files_carry_the_lowest_ir_version_of_their_opset(opset, ir_version):
    # onnxruntime refuses files of a later IR version than its own.
    class Three(nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits = image.mean(dim=(2, 3))
            return logits, logits.softmax(1), logits.argmax(1)

    proto = to_onnx(Three(), image_size=8, opset=opset)
    assert (proto.ir_version, proto.opset_import[0].version) == (ir_version, opset)


def test_weights_beyond_one_file_are_refused(monkeypatch):
    monkeypatch.setattr(onnx_file, "_MAX_WEIGHT_BYTES", 100)
    with pytest.raises(UserError, match=r"weights of 1,020 bytes .* at most 100"):
        to_onnx(nn.Linear(50, 5), image_size=8, opset=18)


@pytest.fixture(scope="module")
def mirrored():
    teacher = make_teacher(seed=1)
    teacher.mirror_averaged = True
    return CalibratedModel([teacher], calibration=CALIBRATION).eval()


@pytest.fixture(scope="module")
def mirrored_proto(mirrored):
    return to_onnx(mirrored, image_size=SIZE, opset=18)


def test_a_mirror_averaged_teacher_is_one_file_that_answers_as_torch(
    tmp_path, mirrored, mirrored_proto, proto, images
):
    write_onnx(tmp_path / "mirrored.onnx", mirrored_proto, metadata={})
    session = open_session(tmp_path / "mirrored.onnx", threads=1)
    answers = run_session(session, images.numpy())
    turned = run_session(session, np.ascontiguousarray(images.numpy()[..., ::-1]))
    expected = torch_answers(mirrored, images)
    np.testing.assert_allclose(answers.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(turned.probabilities, expected.probabilities, atol=1e-5)
    # The weights are there once.
    assert mirrored_proto.ByteSize() < 1.2 * proto.ByteSize()


@pytest.mark.parametrize(("name", "limit"), [("fp16", 2e-3), ("int8", 0.05)])
@pytest.mark.parametrize("prefix", ["", "mirrored_"])
def test_a_variant_is_smaller_and_answers_nearly_the_same(
    tmp_path, request, images, caplog, prefix, name, limit
):
    proto = request.getfixturevalue(f"{prefix}proto")
    model = request.getfixturevalue("mirrored" if prefix else "model")
    del proto.metadata_props[:]
    before = proto.SerializeToString(deterministic=True)
    full = tmp_path / "full.onnx"
    write_onnx(full, proto, metadata={"temperature": 1.7})
    caplog.clear()  # a fixture made just now has logged
    with caplog.at_level(logging.INFO):
        small = write_variant(name, proto, full=full, metadata={"temperature": 1.7})
        logging.getLogger("stages").info("heard again")
    assert caplog.messages == ["heard again"]
    assert small.name == f"full.{name}.onnx"
    assert small.stat().st_size < 0.6 * full.stat().st_size
    session = open_session(small, threads=1)
    answers, expected = run_session(session, images.numpy()), torch_answers(model, images)
    assert 0 < np.abs(answers.probabilities - expected.probabilities).max() <= limit
    assert (answers.labels != expected.labels).mean() <= limit
    shapes = [(value.name, value.type, value.shape[0]) for value in session.get_inputs()]
    assert shapes == [("image", "tensor(float)", "batch")]
    texts = {"temperature": "1.7", "precision": f'"{name}"'}
    assert session.get_modelmeta().custom_metadata_map == texts
    del proto.metadata_props[:]
    assert proto.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("fixture", ["proto", "mirrored_proto"])
def test_the_head_stays_in_single_precision(request, fixture):
    proto = request.getfixturevalue(fixture)
    # By its types: onnxruntime's CPU kernels would widen half floats and hide what a GPU shows.
    graph = VARIANTS["fp16"](proto).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types.values()
    narrow = {name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT16}
    for node in graph.node:
        if node.op_type == "Cast":
            narrow |= set(node.output) if node.attribute[0].i == onnx.TensorProto.FLOAT16 else set()
        elif node.op_type != "Shape" and narrow & set(node.input):
            narrow |= set(node.output)
    # What follows from a length; a second backbone, of the mirror image, does not.
    of_head = set()
    for node in graph.node:
        if node.op_type == "ReduceL2" or of_head & set(node.input):
            of_head |= set(node.output)
            if node.op_type not in ("Shape", "Concat", "Reshape"):
                assert not narrow & {*node.input, *node.output}, node.name
    assert {value.name for value in graph.output} <= of_head


def test_reported_int8_leaves_depthwise_convolutions_in_single_precision():
    torch.manual_seed(0)
    backbone = timm.create_model("mobilenetv1_100", num_classes=0)
    teacher = Teacher(backbone, num_features=1024, embedding_size=16, dropout=0.0, scale=30.0)
    model = CalibratedModel([teacher.eval()], calibration=CALIBRATION).eval()
    nodes = VARIANTS["int8"](to_onnx(model, image_size=SIZE, opset=18)).graph.node
    convolutions = [each for each in backbone.modules() if isinstance(each, nn.Conv2d)]
    depthwise = sum(each.groups > 1 for each in convolutions)
    kinds = [node.op_type for node in nodes]
    assert kinds.count("Conv") == depthwise > 10
    assert kinds.count("ConvInteger") == len(convolutions) - depthwise


# Small forms of backbones that take L2 norms of their own features (ConvNeXt V2, XCiT).
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("test_convnext", {"use_grn": True}),
        ("xcit_nano_12_p8_224", {"depth": 1, "cls_attn_layers": 1, "embed_dim": 64}),
    ],
    ids=["test_reported_fp16_of_a_backbone_with_norms_of_its_own_is_half_as_large", "xcit"],
)
def test_reported_fp16_of_an_ensemble_is_half_as_large(kind, options):
    torch.manual_seed(0)
    backbone = timm.create_model(kind, num_classes=0, **options)
    teacher = Teacher(
        backbone, num_features=backbone.num_features, embedding_size=16, dropout=0.0, scale=30.0
    )
    # The second backbone must not count as what follows from the first one's head.
    calibration = Calibration((0.5, 0.5), TWO, 1.7, SHARES)
    model = CalibratedModel([make_teacher(seed=1), teacher], calibration=calibration)
    proto = to_onnx(model.eval(), image_size=SIZE, opset=18)
    lengths = [node.name for node in proto.graph.node if node.op_type == "ReduceL2"]
    assert any(not length.startswith(HEAD) for length in lengths)
    small = VARIANTS["fp16"](proto)
    tensors = small.graph.initializer
    sizes = [onnx.numpy_helper.to_array(tensor).nbytes for tensor in tensors]
    is_half = [tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in tensors]
    assert np.dot(sizes, is_half) > 0.9 * sum(sizes)
    assert small.ByteSize() < 0.6 * proto.ByteSize()
