"""A small exported file that a test can say anything of."""

import json

import numpy as np
import onnx
from exporting.tiny import SIZE

from stages.config import CLASSES

PREPROCESS = {"clahe": None, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
GRAPH = f"""
<ir_version: 10, opset_import: ["" : 18]>
linear (float[n,3,{SIZE},{SIZE}] image) => (float[n,7] logits, float[n,7] probabilities)
{{
  mean = GlobalAveragePool(image)
  flat = Flatten(mean)
  logits = MatMul(flat, slope)
  scaled = Div(logits, temperature)
  probabilities = Softmax<axis = 1>(scaled)
}}
"""


def write_linear_onnx(path, *, weights, classes=CLASSES, temperature=2.0, version=1, no_fit=None):
    """Write a file whose logits are a linear function of the mean colour."""
    model = onnx.parser.parse_model(GRAPH)
    slope = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    for name, value in {"slope": slope, "temperature": np.float32(temperature)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    values = {"class_order": list(classes), "preprocess": PREPROCESS | {"size": SIZE}}
    values |= {"temperature": temperature, "temperature_no_fit": no_fit, "stage": "stageA"}
    values |= {"weights": {"RN18": 1.0}, "weights_sha256": weights}
    values |= {"metadata_version": version, "precision": "fp32"}
    onnx.helper.set_model_props(model, {key: json.dumps(values[key]) for key in values})
    onnx.save(model, path)
