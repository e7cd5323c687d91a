"""Cards, calibration and how faces were cut -> the metadata of an ONNX file.

With it onnxruntime, OpenCV and numpy are enough to use the file. The values are plain; onnx_file.py
writes each as JSON, and reference.py follows them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.calibrating.calibration import Calibration
from stages.calibrating.calibration_file import RefinementChoice
from stages.calibrating.decision import RULE
from stages.exporting.teacher_inputs import ModelInput, input_of, shared_input
from stages.faces.decode import MAX_ANGLE
from stages.faces.shards import read_index, source_folders
from stages.modeling.card import TeacherCard

# Raised when a reader of the old form would do something wrong with the new one.
# Version 2: prior_correction is in the logits, to which a reader of version 1 would add it again.
METADATA_VERSION = 2

_MIXTURES = {
    "probabilities": "log of the weighted mean of the teachers' softmax",
    "logits": "weighted mean of the teachers' log softmax",
}


def describe(
    cards: Sequence[TeacherCard],
    calibration: Calibration,
    *,
    refinement: RefinementChoice,
    face: dict[str, Any],
    opset: int,
) -> dict[str, Any]:
    """Describe a file that holds the teachers of `cards`, fused and decided by the calibration.

    Values that all cards share are taken from the first; `bundle.py` checked that they agree. Where
    the teachers' inputs differ, `teacher_inputs` says what the graph makes of the file's own.
    """
    card, given = cards[0], shared_input(cards, calibration.weights)
    size, inputs = given.image_size, {c.teacher: input_of(c) for c in cards}
    logits = "the teacher's logits" if len(cards) == 1 else _MIXTURES[calibration.space]
    described = {
        "metadata_version": METADATA_VERSION,
        "class_order": list(card.classes),
        "preprocess": _preprocess_block(given, face=face),
        "temperature": calibration.temperature,
        "temperature_no_fit": calibration.temperature_no_fit,
        "crowd_temperature": calibration.crowd_temperature,
        "crowd_temperature_no_fit": calibration.crowd_temperature_no_fit,
        "class_bias": list(calibration.class_bias),
        "refinement": refinement.model_dump(mode="json"),
        "prior_correction": {
            "meaning": "added to each teacher's logits already, do not add it again: it puts back "
            "the class prior that training took out, so that they speak for classes as frequent "
            "as in the training rows",
            "teachers": {c.teacher: list(c.prior_correction) for c in cards},
        },
        "decision": {
            "rule": RULE,
            "exponent": calibration.exponent,
            "f1_exponent": calibration.f1_exponent,
            "val_shares": list(calibration.val_shares),
        },
        "weights": {c.teacher: w for c, w in zip(cards, calibration.weights, strict=True)},
        "mixture": {"of": calibration.space},
        "opset": opset,
        "input": {"image": f"float32 (N, 3, {size}, {size}), any N, preprocessed"},
        "outputs": {
            "logits": "float32 (N, 7) in class_order, with prior_correction, before the "
            f"temperature: {logits}",
            "probabilities": "float32 (N, 7) in class_order, calibrated: "
            "softmax(logits / temperature + class_bias)",
            "label": "int64 (N,), a place in class_order: argmax(probabilities * float32("
            "val_shares ** -exponent)), the power in double precision",
        },
        "stage": card.stage,
        "teachers": {c.teacher: c.backbone for c in cards},
        "weights_sha256": {c.teacher: c.weights_sha256 for c in cards},
        "manifest_sha256": card.manifest_sha256,
        "recipe_version": max(c.training_version for c in cards),
    }
    if {*inputs.values()} != {given}:
        described["teacher_inputs"] = {
            "meaning": "image is prepared as preprocess says; the graph resizes it for each "
            "teacher (bilinear, antialiased) and normalises it by the teacher's own mean and std",
            "teachers": {name: each.normalised() for name, each in inputs.items()},
        }
    return described


def describe_face(standardized: Path, *, margin: float, max_side_px: int) -> dict[str, Any]:
    """Describe the step from a photo and a box to a face, and count how faces of training were cut.

    Raises:
        UserError: if no source is there.
    """
    counts = [read_index(folder)["crops"] for folder in source_folders(standardized)]
    crops = {kind: sum(each[kind] for each in counts) for kind in ("none", "box", "aligned")}
    levelled = {
        "by": "angle of the line from the subject's right eye to the left, to 0.1 degrees",
        "max_angle": MAX_ANGLE,
        "beyond_or_without_eyes": "cut along the axes",
        "about": "(side - 1) / 2 of the square",
        "interpolation": "INTER_CUBIC",
    }
    return {
        "box": "px: left and top inclusive, right and bottom exclusive",
        "crop_margin": margin,
        "side": "max(1, round(max(width, height) * (1 + 2 * crop_margin))) of the box",
        "left": "(left + right - side) // 2",
        "top": "(top + bottom - side) // 2",
        "border": "BORDER_REPLICATE",
        # Faces that were never levelled are not to be levelled.
        "levelled": levelled if crops["aligned"] > 0 else None,
        "max_side_px": max_side_px,
        "shrink": "INTER_AREA",
        "faces_by_crop": crops,
    }


def _preprocess_block(given: ModelInput, *, face: dict[str, Any]) -> dict[str, Any]:
    """Describe the steps from a photo or a face (uint8 RGB) to the model's input for OpenCV."""
    size, clahe = given.image_size, given.preprocess.clahe
    equalized = clahe and {
        "channel": "Y of YCrCb",
        "clip_limit": clahe.clip_limit,
        "tiles": [clahe.tiles, clahe.tiles],
    }
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
        "face": face,
        "size": size,
        "resize": {
            "to": [size, size],
            "keep_aspect": False,
            "shrink": "INTER_AREA",
            "enlarge": "INTER_LINEAR",
            "rule": "shrink if min(height, width) > size, else enlarge; as it is if size x size",
        },
        "clahe": equalized,
        "value_range": [0.0, 1.0],
        "mean": list(given.preprocess.mean),
        "std": list(given.preprocess.std),
        "layout": "NCHW",
        "dtype": "float32",
    }
