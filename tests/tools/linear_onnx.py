"""A small exported file that a test can say anything of."""

import json

import numpy as np
import onnx
from exporting.tiny import SIZE
from onnx import TensorProto, helper

from stages.config import CLASSES

PREPROCESS = {"clahe": None, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}


def write_linear_onnx(path, *, weights, classes=CLASSES, temperature=2.0, version=1, no_fit=None):
    """Logits are a linear function of the mean colour."""
    slope = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "slope"], ["logits"]),
        helper.make_node("Div", ["logits", "temperature"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["probabilities"], axis=1),
    ]
    constants = {"slope": slope, "temperature": np.float32(temperature)}
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 7]) for name in ("logits", "probabilities")],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    said = {
        "class_order": list(classes), "preprocess": PREPROCESS | {"size": SIZE},
        "temperature": temperature, "temperature_no_fit": no_fit, "weights": {"RN18": 1.0}, "weights_sha256": weights,
        "stage": "stageA", "metadata_version": version, "precision": "fp32",
    }  # fmt: skip
    texts = {name: json.dumps(value) for name, value in said.items()}
    helper.set_model_props(model, texts)
    onnx.save(model, path)
