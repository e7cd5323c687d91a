"""A small exported file that a test can say anything of."""

import json

import numpy as np
import onnx
from exporting.tiny import SIZE

from stages.calibrating.decision import RULE
from stages.config import CLASSES

PREPROCESS = {"clahe": None, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
BIAS = [0.2, 0.0, -0.2, 0.1, 0.0, -0.1, 0.0]
# With these and the exponent 0.5, Sad is the most probable class of small faces; some are called Neutral.
SHARES = [0.25, 0.08, 0.166, 0.1, 0.204, 0.1, 0.1]
GRAPH = f"""
<ir_version: 10, opset_import: ["" : 18]>
linear (float[n,3,{SIZE},{SIZE}] image)
    => (float[n,7] logits, float[n,7] probabilities, int64[n] label)
{{
  mean = GlobalAveragePool(image)
  flat = Flatten(mean)
  logits = MatMul(flat, slope)
  scaled = Div(logits, temperature)
  biased = Add(scaled, bias)
  probabilities = Softmax<axis = 1>(biased)
  weighted = Mul(probabilities, weights)
  label = ArgMax<axis = 1, keepdims = 0>(weighted)
}}
"""


def write_linear_onnx(path, *, weights, exponent=0.0, **changes):
    """Write a file whose logits are a linear function of the mean colour."""
    values = {"class_order": list(CLASSES), "preprocess": PREPROCESS | {"size": SIZE}}
    values |= {"temperature": 2.0, "temperature_no_fit": None, "class_bias": BIAS}
    values |= {"crowd_temperature": 3.0, "crowd_temperature_no_fit": None, "stage": "stageA"}
    refinement = {"taken": "bias", "reason": "asked"}
    values["refinement"] = refinement | dict.fromkeys(["prior_exponent", "prior_exponent_95"])
    values["decision"] = {"rule": RULE, "exponent": exponent, "f1_exponent": 0.7}
    values["decision"]["val_shares"] = SHARES
    values |= {"weights_sha256": weights, "metadata_version": 2, "precision": "fp32"}
    values |= {"manifest_sha256": "d" * 64} | changes
    model = onnx.parser.parse_model(GRAPH)
    slope = np.random.default_rng(0).normal(size=(3, 7))
    numbers = {"slope": slope, "bias": BIAS, "weights": np.array(SHARES) ** -exponent}
    for name, value in (numbers | {"temperature": values["temperature"]}).items():
        array = np.asarray(value, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.helper.set_model_props(model, {key: json.dumps(values[key]) for key in values})
    onnx.save(model, path)
