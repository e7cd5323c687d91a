"""An exported ONNX file -> what it says of itself, and of faces."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as refusals

from stages.calibrating.calibration import Probabilities
from stages.config import CLASSES, Preprocess
from stages.exporting.metadata import METADATA_VERSION
from stages.runtime.errors import UserError
from stages.runtime.foreign import describe_file
from stages.scoring.metrics import softmax

_METADATA = (
    "class_order", "preprocess", "temperature", "weights", "weights_sha256", "stage", "precision",
)  # fmt: skip
_REFUSALS = (
    refusals.Fail, refusals.InvalidArgument, refusals.InvalidGraph, refusals.InvalidProtobuf,
    refusals.NotImplemented, refusals.RuntimeException,
)  # fmt: skip


@dataclass(frozen=True)
class OnnxModel:
    """A loaded file whose metadata are complete and in our class order."""

    session: onnxruntime.InferenceSession
    metadata: Mapping[str, Any]

    @property
    def image_size(self) -> int:
        """Return the side of the model's input, px."""
        return int(self.metadata["preprocess"]["size"])

    @property
    def preprocess(self) -> Preprocess:
        """Return the preprocess section that the file carries."""
        values = {key: self.metadata["preprocess"][key] for key in ("clahe", "mean", "std")}
        if clahe := values["clahe"]:
            values["clahe"] = {"clip_limit": clahe["clip_limit"], "tiles": clahe["tiles"][0]}
        return Preprocess.model_validate_json(json.dumps(values))


def read_onnx(path: Path) -> OnnxModel:
    """Read an exported file's metadata.

    Raises:
        UserError: if it is missing or no such file, lacks metadata or has them in another form or
            class order.
    """
    if not path.is_file():
        raise UserError(f"{path.name}: no such file; `dvc repro export` makes it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except _REFUSALS as error:
        reason = " ".join(str(error).split()).replace(str(path), path.name)
        raise UserError(
            f"{path.name}: expected an ONNX file, got {describe_file(path)} that onnxruntime "
            f"cannot load: {reason}"
        ) from None
    texts = session.get_modelmeta().custom_metadata_map
    if missing := [key for key in _METADATA if key not in texts]:
        raise UserError(f"{path.name}: metadata: {missing} missing; was it exported here?")
    metadata = {key: json.loads(text) for key, text in texts.items()}
    for key, expected in (("metadata_version", METADATA_VERSION), ("class_order", list(CLASSES))):
        if (got := metadata.get(key)) != expected:
            raise UserError(f"{path.name}: {key}: expected {expected}, got {got}")
    return OnnxModel(session, metadata)


def predict_onnx(model: OnnxModel, batches: Iterable[npt.NDArray[np.float32]]) -> Probabilities:
    """Predict raw and calibrated probabilities (N, 7) of batches of images (n, 3, S, S)."""
    outputs = [
        model.session.run(["logits", "probabilities"], {"image": np.ascontiguousarray(images)})
        for images in batches
    ]
    logits, probabilities = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    raw, calibrated = softmax(logits), probabilities.astype(np.float64)
    calibrated /= calibrated.sum(axis=1, keepdims=True)
    return Probabilities(raw, calibrated, np.full_like(raw, np.nan))
