"""A torch module -> one ONNX file that carries its weights and says how it is used.

In: a module from images (N, 3, S, S) to `(logits, probabilities)`. Out: a checked file whose
metadata (string to JSON string) onnxruntime hands out as `custom_metadata_map`.
"""

import ast
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from stages.modeling.arcface import ArcfaceHead
from stages.modeling.teacher import Teacher
from stages.runtime.errors import UserError
from stages.runtime.files import write_bytes

INPUT = "image"
OUTPUTS = ("logits", "probabilities")
# The names of nodes begin with it that are no teacher's features: the heads and what uses them.
HEAD = "head/"

_CLASSES = "pkg.torch.onnx.class_hierarchy"

# They tell of every node that they touch.
for _name in ("onnxscript", "onnx_ir"):
    logging.getLogger(_name).setLevel(logging.WARNING)

# A protobuf message ends at 2 GiB; the graph beside the weights needs little.
_MAX_WEIGHT_BYTES = 2**31 - 2**24


def to_onnx(model: nn.Module, *, image_size: int, opset: int) -> onnx.ModelProto:
    """Trace a module that lives on the CPU into a checked ONNX model with a free batch size.

    Its IR version is the lowest that the opset permits, so that older runtimes read it too.

    Raises:
        UserError: if the weights do not fit into one ONNX file.
    """
    _require_one_file(model)
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
    _name_heads(proto.graph)
    _drop_traces(proto.graph)
    proto.ir_version = lowest_ir_version(opset)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def write_onnx(path: Path, proto: onnx.ModelProto, *, metadata: Mapping[str, Any]) -> None:
    """Write the model with its metadata, each value as JSON, in place of any it had."""
    del proto.metadata_props[:]
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()}
    onnx.helper.set_model_props(proto, texts)
    write_bytes(path, proto.SerializeToString(deterministic=True))


def lowest_ir_version(opset: int) -> int:
    """The oldest form of an ONNX file that may hold an opset."""
    version: int = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    return version


def _require_one_file(model: nn.Module) -> None:
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    if size > _MAX_WEIGHT_BYTES:
        raise UserError(
            f"params.yaml: teachers: weights of {size:,} bytes do not fit into one ONNX file; "
            f"expected at most {_MAX_WEIGHT_BYTES:,} in all teachers together"
        )


def _name_heads(graph: onnx.GraphProto) -> None:
    """Begin the names of nodes outside the teachers' features with `HEAD`.

    The exporter notes the classes of the modules that a node comes from. Operations do not tell: a
    backbone may divide by lengths of its own, and two heads may share a node.
    """
    head, teacher = (f"{kind.__module__}.{kind.__qualname__}" for kind in (ArcfaceHead, Teacher))
    for node in graph.node:
        notes = {entry.key: entry.value for entry in node.metadata_props}
        classes = ast.literal_eval(notes.get(_CLASSES, "[]"))
        if teacher not in classes or head in classes:
            node.name = HEAD + node.name


def _drop_traces(graph: onnx.GraphProto) -> None:
    """Drop the exporter's notes: the stack traces among them hold paths of this machine."""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
