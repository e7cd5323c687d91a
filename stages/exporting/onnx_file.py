"""Teachers and their calibration -> one ONNX file with weights and metadata, and smaller variants.

In: modules from images (N, 3, S, S) to `(logits, probabilities, label)`: (N, 7) float32 twice, with
`probabilities == softmax(logits / temperature + class_bias)`, and class numbers (N,) int64. Out: a
checked file whose metadata (string to JSON string) onnxruntime hands out as `custom_metadata_map`;
variants in fp16 and dynamic int8 with the same input and outputs.
"""

import ast
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn

from stages.calibrating.calibration import Calibration
from stages.modeling.arcface import ArcfaceHead
from stages.modeling.teacher import Teacher
from stages.runtime.errors import UserError
from stages.runtime.files import write_bytes
from stages.scoring.metrics import Floats, Ints

INPUT = "image"
OUTPUTS = ("logits", "probabilities", "label")
# Prefix for the names of nodes that are no teacher's features: the heads and what uses them.
HEAD = "head/"
# The largest size of a variant as a share of the fp32 file. Measured on twelve backbones: fp16 .50
# to .52; int8 .25 to .31, and .99 for three that compute their weights anew in each run (NFNet,
# ResNetV2-BiT), where the quantizer finds none. An int8 file above half is no match for fp16.
LARGEST = {"fp16": 0.75, "int8": 0.5}

# A protobuf message ends at 2 GiB; the graph beside the weights needs little.
_MAX_WEIGHT_BYTES = 2**31 - 2**24

# They log every node that they touch.
for _name in ("onnxscript", "onnx_ir"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class SizeError(UserError):
    """A variant that is hardly smaller than the fp32 file."""


class Answers(NamedTuple):
    """What a file or a module says of images: probabilities (N, 7) and class numbers (N,)."""

    probabilities: Floats
    labels: Ints


class CalibratedModel(nn.Module):
    """Teachers whose class prior is put back, that are fused then, scaled, and made to decide.

    The logits of one teacher are its own z plus its correction v; of several they are the logarithm
    of their mixture. Of probabilities that is log sum_k w_k softmax(z_k + v_k), taken as a
    logsumexp so that no class underflows; of logits it is sum_k w_k log softmax(z_k + v_k), which
    lacks a constant that no softmax sees. The label is the argmax of
    `probabilities * decision_weights`, the first of equals.
    """

    corrections: Tensor  # (M, 7) of M teachers with a weight
    weights: Tensor  # (M, 1)
    class_bias: Tensor  # (7,)
    decision_weights: Tensor  # (7,)

    def __init__(self, teachers: Sequence[nn.Module], *, calibration: Calibration) -> None:
        super().__init__()
        # A teacher of weight 0 changes nothing, and log 0 would have no finite place in the graph.
        used = [number for number, weight in enumerate(calibration.weights) if weight > 0]
        self.teachers = nn.ModuleList(teachers[number] for number in used)
        self.is_mixture = len(teachers) > 1
        self.mixes_logits = calibration.space == "logits"
        self.temperature = calibration.temperature
        decision_weights = np.asarray(calibration.val_shares) ** -calibration.exponent
        for name, values in {
            "corrections": [calibration.corrections[number] for number in used],
            "weights": [[calibration.weights[number]] for number in used],
            "class_bias": calibration.class_bias,
            "decision_weights": decision_weights,
        }.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute logits, calibrated probabilities and labels."""
        members = torch.stack([teacher(image) for teacher in self.teachers], dim=1)
        members = members + self.corrections
        logits = members[:, 0]
        if self.is_mixture:
            logs = torch.log_softmax(members, dim=2)
            if self.mixes_logits:
                logits = (logs * self.weights).sum(dim=1)
            else:
                logits = torch.logsumexp(logs + self.weights.log(), dim=1)
        probabilities = torch.softmax(logits / self.temperature + self.class_bias, dim=1)
        return logits, probabilities, (probabilities * self.decision_weights).argmax(dim=1)


def to_onnx(model: nn.Module, *, image_size: int, opset: int) -> onnx.ModelProto:
    """Trace a module that lives on the CPU into a checked ONNX model with a free batch size.

    Its IR version is the lowest that the opset permits, so that older runtimes read it too.

    Raises:
        UserError: if the weights do not fit into one ONNX file.
    """
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    if size > _MAX_WEIGHT_BYTES:
        raise UserError(
            f"params.yaml: teachers: weights of {size:,} bytes do not fit into one ONNX file; "
            f"expected at most {_MAX_WEIGHT_BYTES:,} in all teachers together"
        )
    # A batch of 2: torch.export takes a dimension of 1 for a constant.
    example = torch.zeros(2, 3, image_size, image_size)
    program = torch.onnx.export(
        model.eval(),
        (example,),
        dynamo=True,
        opset_version=opset,
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    graph = proto.graph
    head, teacher = (f"{kind.__module__}.{kind.__qualname__}" for kind in (ArcfaceHead, Teacher))
    for node in graph.node:
        # The exporter notes the classes of the modules that a node comes from. Operations do not
        # tell: a backbone may divide by lengths of its own, and two heads may share a node.
        notes = {entry.key: entry.value for entry in node.metadata_props}
        classes = ast.literal_eval(notes.get("pkg.torch.onnx.class_hierarchy", "[]"))
        # A teacher itself does nothing but average the logits of a face and its mirror image.
        if teacher not in classes or head in classes or classes[-2] == teacher:
            node.name = HEAD + node.name
    # Drop the exporter's notes: the stack traces among them hold paths of this machine.
    values = (*graph.value_info, *graph.input, *graph.output, *graph.initializer)
    for part in (graph, *graph.node, *values):
        del part.metadata_props[:]
    proto.ir_version = lowest_ir_version(opset)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def write_onnx(path: Path, proto: onnx.ModelProto, *, metadata: Mapping[str, Any]) -> None:
    """Write the model with its metadata, each value as JSON, in place of any it had."""
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()}
    onnx.helper.set_model_props(proto, texts)
    write_bytes(path, proto.SerializeToString(deterministic=True))


def lowest_ir_version(opset: int) -> int:
    """Look up the oldest form of an ONNX file that may hold an opset."""
    return int(onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)]))


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
        deepcopy(proto), keep_io_types=True, node_block_list=sorted(heads | lengths)
    )
    _join_casts(converted.graph, originals={t.name: t for t in proto.graph.initializer})
    # It appends its casts at the end, where ONNX wants nodes in the order of computation.
    ONNXModel(converted).topological_sort()
    onnx.checker.check_model(converted)
    return converted


def to_int8(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Convert to 8-bit weights, one scale a channel; features are quantised at run time.

    Depthwise convolutions stay in float32: they hold hardly a weight, and their channels differ too
    much for one scale of features. A MobileNetV1 then gives 4 % of faces another class than in
    float32; with all convolutions in int8, 15 %.
    """
    prepared = deepcopy(proto)
    shapes = {weights.name: weights.dims for weights in proto.graph.initializer}
    depthwise = [
        node.name
        for node in proto.graph.node
        # A filter sees one channel.
        if node.op_type == "Conv" and node.input[1] in shapes and shapes[node.input[1]][1] == 1
    ]
    # The exporter has simplified it and inferred its shapes; unsaid, each run warns of that.
    onnx.helper.set_model_props(prepared, {"onnx.quant.pre_process": "onnxruntime.quant"})
    # The quantizer tells the root logger of every tensor that it leaves as it is.
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "int8.onnx")
            # Unsigned: onnxruntime's CPU kernels of ConvInteger take no other weights.
            quantize_dynamic(
                prepared,
                path,
                weight_type=QuantType.QUInt8,
                per_channel=True,
                nodes_to_exclude=depthwise,
            )
            quantised = onnx.load(path)
    finally:
        logging.disable(disabled)
    onnx.checker.check_model(quantised)
    return quantised


VARIANTS: Mapping[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "fp16": to_fp16,
    "int8": to_int8,
}


def write_variant(
    variant: str, proto: onnx.ModelProto, *, full: Path, metadata: dict[str, Any]
) -> Path:
    """Write `<name>.<variant>.onnx` of a model beside its fp32 file `full`.

    Raises:
        SizeError: if it is hardly smaller than `full`, naming the key that mends it.
    """
    path = full.with_suffix(f".{variant}.onnx")
    write_onnx(path, VARIANTS[variant](proto), metadata=metadata | {"precision": variant})
    size, whole = path.stat().st_size, full.stat().st_size
    if size > LARGEST[variant] * whole:
        raise SizeError(
            f"{path.name}: {size / 1e6:.2f} MB are {size / whole:.2f} of {full.name} "
            f"({whole / 1e6:.2f} MB); expected at most {LARGEST[variant]:g}: most weights did not "
            f"become {variant}; take {variant} out of export.variants"
        )
    return path


def open_session(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Load a file into onnxruntime's CPU provider, to run on this number of cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # An idle pool that spins takes the cores that torch, measured in turns with it, needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_session(session: onnxruntime.InferenceSession, images: npt.NDArray[np.float32]) -> Answers:
    """Ask a file about images (N, 3, S, S)."""
    probabilities, labels = session.run(list(OUTPUTS[1:]), {INPUT: images})
    return Answers(probabilities.astype(np.float64), labels)


def _join_casts(graph: onnx.GraphProto, *, originals: Mapping[str, onnx.TensorProto]) -> None:
    """Replace each pair of casts, to half precision and back, by the original value.

    The converter narrows all between any two nodes: each result within the head would be rounded to
    half precision, and its weights.
    """
    casts = [(node, node.attribute[0].i) for node in graph.node if node.op_type == "Cast"]
    narrowed = {n.output[0]: n.input[0] for n, kind in casts if kind == onnx.TensorProto.FLOAT16}
    widened = [node for node, kind in casts if kind == onnx.TensorProto.FLOAT]
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
