"""A variant must be what its name says, whatever is inside the backbone."""

from pathlib import Path

import onnx
import pytest
import timm
import torch
from torch import nn

from stages.calibrating.calibration import Calibration
from stages.exporting.calibrated import CalibratedEnsemble, CalibratedTeacher
from stages.exporting.onnx_file import HEAD, to_onnx, write_onnx
from stages.exporting.variants import VARIANTS, SizeError, require_smaller
from stages.modeling.teacher import Teacher
from tests.exporting.tiny import SIZE, make_teacher

# Small forms of backbones that take L2 norms of their own features (ConvNeXt V2, XCiT), and of one
# that computes its weights anew in each run.
BACKBONES = {
    "convnextv2": ("test_convnext", {"use_grn": True}),
    "xcit": ("xcit_nano_12_p8_224", {"depth": 1, "cls_attn_layers": 1, "embed_dim": 64}),
    "nfnet": ("test_nfnet", {}),
}


def teacher_of(name: str) -> Teacher:
    model, options = BACKBONES[name]
    torch.manual_seed(0)
    backbone = timm.create_model(model, num_classes=0, **options)
    return Teacher(
        backbone, num_features=backbone.num_features, embedding_size=16, dropout=0.0, scale=30.0
    ).eval()


def alone(teacher: nn.Module) -> onnx.ModelProto:
    model = CalibratedTeacher(teacher, calibration=Calibration((1.0,), 1.7))
    return to_onnx(model.eval(), image_size=SIZE, opset=18)


def shares(proto: onnx.ModelProto) -> dict[int, float]:
    """The share of each type in the bytes of the weights."""
    sizes: dict[int, int] = {}
    for tensor in proto.graph.initializer:
        size = onnx.numpy_helper.to_array(tensor).nbytes
        sizes[tensor.data_type] = sizes.get(tensor.data_type, 0) + size
    return {kind: size / sum(sizes.values()) for kind, size in sizes.items()}


@pytest.mark.parametrize("name", ["convnextv2", "xcit"])
def test_reported_fp16_of_a_backbone_with_norms_of_its_own_is_half_as_large(name: str) -> None:
    proto = alone(teacher_of(name))
    lengths = [node.name for node in proto.graph.node if node.op_type == "ReduceL2"]
    assert len([each for each in lengths if not each.startswith(HEAD)]) > 0
    small = VARIANTS["fp16"](proto)
    assert shares(small)[onnx.TensorProto.FLOAT16] > 0.9
    assert small.ByteSize() < 0.6 * proto.ByteSize()


def test_reported_fp16_of_an_ensemble_is_half_as_large() -> None:
    # The second backbone must not count as what follows from the first one's head.
    teachers = [make_teacher(seed=1), teacher_of("convnextv2")]
    model = CalibratedEnsemble(teachers, calibration=Calibration((0.5, 0.5), 1.7))
    proto = to_onnx(model.eval(), image_size=SIZE, opset=18)
    assert shares(VARIANTS["fp16"](proto))[onnx.TensorProto.FLOAT16] > 0.9


@pytest.mark.parametrize(("name", "variant"), [("convnextv2", "fp16"), ("nfnet", "int8")])
def test_incident_X6_variant_that_saves_nothing_is_refused(
    tmp_path: Path, name: str, variant: str
) -> None:
    proto = alone(teacher_of(name))
    full, small = tmp_path / "B3.onnx", tmp_path / f"B3.{variant}.onnx"
    write_onnx(full, proto, metadata={})
    # The quantizer really finds few weights in an NFNet. fp16 files were so before they were mended.
    write_onnx(small, VARIANTS["int8"](proto) if name == "nfnet" else proto, metadata={})
    with pytest.raises(SizeError, match=rf"B3\.{variant}\.onnx: .* are (1\.0|0\.8)0 of B3\.onnx"):
        require_smaller(variant, small, full=full)


def test_variants_of_a_plain_backbone_are_small_enough(
    tmp_path: Path, proto: onnx.ModelProto
) -> None:
    write_onnx(tmp_path / "full.onnx", proto, metadata={})
    for name, make in VARIANTS.items():
        write_onnx(tmp_path / f"{name}.onnx", make(proto), metadata={})
        require_smaller(name, tmp_path / f"{name}.onnx", full=tmp_path / "full.onnx")
