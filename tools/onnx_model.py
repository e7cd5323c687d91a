"""An exported ONNX file -> what it says of itself, and of faces. Needs onnxruntime, not torch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as refusals

from stages.calibrating.calibration import Pair
from stages.config import CLASSES, Preprocess
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file
from stages.runtime.foreign import describe_file
from stages.scoring.metrics import Floats, softmax

# The one form of metadata that is understood, as in `reference.py` of an export.
METADATA_VERSION = 1

_METADATA = (
    "class_order", "preprocess", "temperature", "weights", "weights_sha256", "stage", "precision",
)  # fmt: skip

_REFUSALS = (
    refusals.Fail, refusals.InvalidArgument, refusals.InvalidGraph, refusals.InvalidProtobuf,
    refusals.NotImplemented, refusals.RuntimeException,
)  # fmt: skip


@dataclass(frozen=True)
class OnnxModel:
    """A file whose metadata are complete and in our class order."""

    path: Path
    metadata: Mapping[str, Any]

    @property
    def image_size(self) -> int:
        """The side of the model's input, px."""
        return int(self.metadata["preprocess"]["size"])

    @property
    def preprocess(self) -> Preprocess:
        """The preprocess section that the file carries."""
        block = self.metadata["preprocess"]
        clahe = block["clahe"]
        if clahe is not None:
            clahe = {"clip_limit": clahe["clip_limit"], "tiles": clahe["tiles"][0]}
        values = {"clahe": clahe, "mean": block["mean"], "std": block["std"]}
        return Preprocess.model_validate_json(json.dumps(values))

    @property
    def weights_sha256(self) -> tuple[str, ...]:
        """Of the teachers inside."""
        return tuple(self.metadata["weights_sha256"].values())

    def about(self) -> dict[str, str]:
        """What tells this file from others of the same teachers."""
        precision = str(self.metadata["precision"])
        return {"name": self.path.name, "sha256": sha256_file(self.path), "precision": precision}


def read_onnx(path: Path) -> OnnxModel:
    """Read an exported file's metadata.

    Raises:
        UserError: if it is missing or no such file, lacks metadata or has them in another form or
            class order.
    """
    if not path.is_file():
        raise UserError(f"{path.name}: no such file; `dvc repro export` makes it")
    try:
        session = _session(path)
    except _REFUSALS as error:
        reason = " ".join(str(error).split()).replace(str(path), path.name)
        raise UserError(
            f"{path.name}: expected an ONNX file, got {describe_file(path)} that onnxruntime "
            f"cannot load: {reason}"
        ) from None
    found = session.get_modelmeta().custom_metadata_map
    if missing := [key for key in _METADATA if key not in found]:
        raise UserError(f"{path.name}: metadata: {missing} missing; was it exported here?")
    metadata = {key: json.loads(text) for key, text in found.items()}
    if metadata.get("metadata_version") != METADATA_VERSION:
        got = metadata.get("metadata_version")
        raise UserError(f"{path.name}: metadata_version: expected {METADATA_VERSION}, got {got}")
    if tuple(metadata["class_order"]) != CLASSES:
        got = metadata["class_order"]
        raise UserError(f"{path.name}: class_order: expected {list(CLASSES)}, got {got}")
    return OnnxModel(path, metadata)


def predict_onnx(model: OnnxModel, batches: Iterable[Mapping[str, Any]]) -> Pair:
    """Raw and calibrated probabilities (N, 7) of every batch's `image` (n, 3, S, S), in order."""
    session = _session(model.path)
    outputs = [
        session.run(["logits", "probabilities"], {"image": np.ascontiguousarray(batch["image"])})
        for batch in batches
    ]
    logits, probabilities = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    raw = softmax(logits)
    scaled: Floats = probabilities.astype(np.float64)
    return Pair(raw, scaled / scaled.sum(axis=1, keepdims=True), np.full_like(raw, np.nan))


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
