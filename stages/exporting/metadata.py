"""What an ONNX file must say of itself, so that onnxruntime, OpenCV and numpy are enough to use it.

In: the cards of the teachers inside it, their weights and the temperature. Out: a mapping of plain
values; onnx_file.py writes each as JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.modeling.weights import TeacherCard


def describe(
    cards: Sequence[TeacherCard], *, weights: Mapping[str, float], temperature: float
) -> dict[str, Any]:
    """The metadata of a file that holds the teachers of `cards`, fused with `weights`.

    Of what all cards share, the first one's word is taken; `bundle.py` saw to it that they agree.
    """
    card = cards[0]
    return {
        "class_order": list(card.classes),
        "preprocess": preprocess_block(card.preprocess, size=card.image_size),
        "temperature": temperature,
        "weights": dict(weights),
        "input": {
            "image": f"float32 (N, 3, {card.image_size}, {card.image_size}), any N, preprocessed"
        },
        "outputs": {
            "logits": "float32 (N, 7) in class_order, before the temperature"
            + ("" if len(cards) == 1 else ": log of the weighted mean of the teachers' softmax"),
            "probabilities": "float32 (N, 7) in class_order, calibrated: "
            "softmax(logits / temperature)",
        },
        "stage": card.stage,
        "teachers": {c.teacher: c.backbone for c in cards},
        "weights_sha256": {c.teacher: c.weights_sha256 for c in cards},
        "manifest_sha256": card.manifest_sha256,
        "recipe_version": card.recipe_version,
    }


def preprocess_block(preprocess: Mapping[str, Any], *, size: int) -> dict[str, Any]:
    """The steps from a cropped face (uint8 RGB, any size) to the model's input, in OpenCV terms."""
    clahe = preprocess["clahe"]
    return {
        "steps": [
            "resize",
            "clahe, unless null",
            "divide by 255 to value_range",
            "subtract mean and divide by std, per channel",
            "to layout",
        ],
        "color_order": "RGB",
        "size": size,
        "resize": {
            "to": [size, size],
            "keep_aspect": False,
            "shrink": "INTER_AREA",
            "enlarge": "INTER_LINEAR",
            "rule": "shrink if min(height, width) > size, else enlarge; as it is if size x size",
        },
        "clahe": None if clahe is None else {
            "channel": "Y of YCrCb",
            "clip_limit": clahe["clip_limit"],
            "tiles": [clahe["tiles"], clahe["tiles"]],
        },
        "value_range": [0.0, 1.0],
        "mean": list(preprocess["mean"]),
        "std": list(preprocess["std"]),
        "layout": "NCHW",
        "dtype": "float32",
    }  # fmt: skip
