"""What an ONNX file must say of itself, so that onnxruntime, OpenCV and numpy are enough to use it.

In: the cards of the teachers inside it, how they are calibrated and how faces were cut. Out: a
mapping of plain values; onnx_file.py writes each as JSON, and reference.py follows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.calibrating.calibration import Calibration
from stages.faces.boxes import MAX_ANGLE
from stages.faces.shards import read_index, source_folders
from stages.modeling.card import TeacherCard

# Raised when a reader of the old form would do something wrong with the new one.
METADATA_VERSION = 1


@dataclass(frozen=True)
class Cut:
    """How the faces that teachers learnt from were cut; `crops` counts them by kind."""

    margin: float
    max_side_px: int
    crops: dict[str, int]

    @property
    def is_levelled(self) -> bool:
        """Whether faces were turned until their eyes were level."""
        return self.crops["aligned"] > 0


def read_cut(standardized: Path, *, margin: float, max_side_px: int) -> Cut:
    """The cut of all sources: what the recipe says, and what was really done to how many faces.

    Raises:
        UserError: if no source is there.
    """
    found = [read_index(folder)["crops"] for folder in source_folders(standardized)]
    crops = {kind: sum(one[kind] for one in found) for kind in ("none", "box", "aligned")}
    return Cut(margin, max_side_px, crops)


def describe(
    cards: Sequence[TeacherCard], *, calibration: Calibration, cut: Cut, opset: int
) -> dict[str, Any]:
    """The metadata of a file that holds the teachers of `cards`, fused as `calibration` says.

    Of what all cards share, the first one's word is taken; `bundle.py` saw to it that they agree.
    """
    card = cards[0]
    names = [one.teacher for one in cards]
    return {
        "metadata_version": METADATA_VERSION,
        "class_order": list(card.classes),
        "preprocess": preprocess_block(card.preprocess, size=card.image_size, cut=cut),
        "temperature": calibration.temperature,
        "temperature_no_fit": calibration.temperature_no_fit,
        "class_bias": list(calibration.class_bias),
        "weights": dict(zip(names, calibration.weights, strict=True)),
        "mixture": {"of": calibration.space},
        "opset": opset,
        "input": {
            "image": f"float32 (N, 3, {card.image_size}, {card.image_size}), any N, preprocessed"
        },
        "outputs": {
            "logits": "float32 (N, 7) in class_order, before the temperature"
            + ("" if len(cards) == 1 else f": {_MIXTURES[calibration.space]}"),
            "probabilities": "float32 (N, 7) in class_order, calibrated: "
            "softmax(logits / temperature + class_bias)",
        },
        "stage": card.stage,
        "teachers": {c.teacher: c.backbone for c in cards},
        "weights_sha256": {c.teacher: c.weights_sha256 for c in cards},
        "manifest_sha256": card.manifest_sha256,
        "recipe_version": card.training_version,
    }


def preprocess_block(preprocess: Mapping[str, Any], *, size: int, cut: Cut) -> dict[str, Any]:
    """The steps from a photo or a face (uint8 RGB) to the model's input, in OpenCV terms."""
    clahe = preprocess["clahe"]
    return {
        "steps": [
            "face, from a photo with a box",
            "resize",
            "clahe, unless null",
            "divide by 255 to value_range",
            "subtract mean and divide by std, per channel",
            "to layout",
        ],
        "color_order": "RGB",
        "face": _face_block(cut),
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


_MIXTURES = {
    "probabilities": "log of the weighted mean of the teachers' softmax",
    "logits": "weighted mean of the teachers' log softmax",
}


def _face_block(cut: Cut) -> dict[str, Any]:
    return {
        "box": "px: left and top inclusive, right and bottom exclusive",
        "crop_margin": cut.margin,
        "side": "max(1, round(max(width, height) * (1 + 2 * crop_margin))) of the box",
        "left": "(left + right - side) // 2",
        "top": "(top + bottom - side) // 2",
        "border": "BORDER_REPLICATE",
        "levelled": None if not cut.is_levelled else {
            "by": "angle of the line from the subject's right eye to the left, to 0.1 degrees",
            "max_angle": MAX_ANGLE,
            "beyond_or_without_eyes": "cut along the axes",
            "about": "(side - 1) / 2 of the square",
            "interpolation": "INTER_CUBIC",
        },
        "max_side_px": cut.max_side_px,
        "shrink": "INTER_AREA",
        "faces_by_crop": cut.crops,
    }  # fmt: skip
