"""A checked fp32 ONNX model -> smaller ones with the same input and outputs: fp16, dynamic int8."""

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import convert_float_to_float16

from stages.exporting.onnx_file import HEAD
from stages.runtime.errors import UserError

# The largest size of a variant as a share of the fp32 file. Measured on twelve backbones: fp16 .50
# to .52; int8 .25 to .31, and .99 for three that compute their weights anew in each run (NFNet,
# ResNetV2-BiT), where the quantizer finds none. An int8 file above half is no match for fp16.
LARGEST = {"fp16": 0.75, "int8": 0.5}


class SizeError(UserError):
    """A variant that is hardly smaller than the fp32 file."""


def to_fp16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Convert weights and features to half precision; input and outputs stay float32.

    The head stays in float32, as in training under autocast: half precision would round a cosine
    of 0.99 by 4e-3, which its scale makes a tenth of, and squares of an embedding can overflow.
    """
    heads = {node.name for node in proto.graph.node if node.name.startswith(HEAD)}
    assert heads, "to_onnx names the nodes of the heads"
    # Lengths keep float32 as under torch's autocast.
    lengths = {node.name for node in proto.graph.node if node.op_type == "ReduceL2"}
    converted: onnx.ModelProto = convert_float_to_float16(
        _copy(proto), keep_io_types=True, node_block_list=sorted(heads | lengths)
    )
    _join_casts(converted.graph, originals={t.name: t for t in proto.graph.initializer})
    # It appends its casts at the end, where ONNX wants nodes in the order of computation.
    ONNXModel(converted).topological_sort()
    onnx.checker.check_model(converted)
    return converted


def to_int8(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Convert to 8-bit weights, one scale a channel; features are quantised at run time."""
    prepared = _copy(proto)
    # The exporter has simplified it and inferred its shapes; unsaid, each run warns of that.
    onnx.helper.set_model_props(prepared, {"onnx.quant.pre_process": "onnxruntime.quant"})
    # The quantizer tells the root logger of every tensor that it leaves as it is.
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "int8.onnx")
            # Unsigned: onnxruntime's CPU kernels of ConvInteger take no other weights.
            quantize_dynamic(prepared, path, weight_type=QuantType.QUInt8, per_channel=True)
            quantised = onnx.load(path)
    finally:
        logging.disable(disabled)
    onnx.checker.check_model(quantised)
    return quantised


VARIANTS: Mapping[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "fp16": to_fp16,
    "int8": to_int8,
}


def require_smaller(variant: str, path: Path, *, full: Path) -> None:
    """Refuse a variant's file that hardly saves anything.

    Raises:
        SizeError: naming the key that mends it.
    """
    size, whole = path.stat().st_size, full.stat().st_size
    if size > LARGEST[variant] * whole:
        raise SizeError(
            f"{path.name}: {size / 1e6:.2f} MB are {size / whole:.2f} of {full.name} "
            f"({whole / 1e6:.2f} MB); expected at most {LARGEST[variant]:g}: most weights did not "
            f"become {variant}; take {variant} out of export.variants"
        )


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied


def _join_casts(graph: onnx.GraphProto, *, originals: Mapping[str, onnx.TensorProto]) -> None:
    """Replace each pair of casts, to half precision and back, by the original value.

    The converter narrows all between any two nodes: each result within the head would be rounded to
    half precision, and its weights.
    """
    narrowed = {n.output[0]: n.input[0] for n in graph.node if _casts(n, onnx.TensorProto.FLOAT16)}
    widened = [node for node in graph.node if _casts(node, onnx.TensorProto.FLOAT)]
    narrow_uses = {name for node in graph.node if node not in widened for name in node.input}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in widened:
        (name,) = node.input
        if name in weights and name not in narrow_uses:
            weights[name].CopyFrom(originals[name])
        if name in narrowed or (name in weights and name not in narrow_uses):
            node.op_type, node.input[0] = "Identity", narrowed.get(name, name)
            del node.attribute[:]
    used = {name for node in graph.node for name in node.input}
    used |= {value.name for value in graph.output}
    kept = [node for node in graph.node if used & set(node.output)]
    del graph.node[:]
    graph.node.extend(kept)


def _casts(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == kind
