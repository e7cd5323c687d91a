"""An exported ONNX file -> what it says of itself, and of faces."""

import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as refusals

from stages.calibrating.calibration import Outputs
from stages.calibrating.decision import name_classes
from stages.calibrating.scaling import Scaling
from stages.config import CLASSES, Preprocess
from stages.exporting.metadata import METADATA_VERSION
from stages.exporting.model_card import CARD_FILE
from stages.runtime.errors import UserError
from stages.runtime.foreign import describe_file
from stages.scoring.metrics import softmax

_METADATA = (
    "class_order", "preprocess", "temperature", "temperature_no_fit", "class_bias", "refinement",
    "crowd_temperature", "crowd_temperature_no_fit", "decision", "weights_sha256", "stage",
    "manifest_sha256", "precision",
)  # fmt: skip
# What the recipe declares of the drawn sample, as its licence.
_DRAWN = "shows nobody"
_VERSION = "metadata_version"
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


class LearntFrom(NamedTuple):
    """A source that the teachers of a file learnt from: its rows by stage, and its licence."""

    name: str
    rows: Mapping[str, int]
    licence: str


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
    metadata = {key: json.loads(texts[key]) for key in (*_METADATA, _VERSION) if key in texts}
    missing = [key for key in _METADATA if key not in metadata]
    for key, expected in ((_VERSION, METADATA_VERSION), ("class_order", list(CLASSES))):
        if key in metadata and metadata[key] != expected:
            raise UserError(f"{path.name}: {key}: expected {expected}, got {metadata[key]}")
    if missing:
        raise UserError(f"{path.name}: metadata: {missing} missing; was it exported here?")
    return OnnxModel(session, metadata)


def predict_onnx(model: OnnxModel, batches: Iterable[npt.NDArray[np.float32]]) -> Outputs:
    """Predict N rows, given batches of images (n, 3, S, S); the class is the file's `label`.

    `raw` is the softmax of the file's logits: with the class prior, before the temperature.
    """
    metadata = model.metadata
    outputs = [
        model.session.run(
            ["logits", "probabilities", "label"], {"image": np.ascontiguousarray(images)}
        )
        for images in batches
    ]
    logits, probabilities, label = map(np.concatenate, zip(*outputs, strict=True))
    calibrated = probabilities.astype(np.float64)
    calibrated /= calibrated.sum(axis=1, keepdims=True)
    crowd, decision = np.full_like(calibrated, np.nan), metadata["decision"]
    if temperature := metadata["crowd_temperature"]:
        crowd = Scaling(temperature, metadata["class_bias"]).apply(logits.astype(np.float64))
    shares, exponent = np.asarray(decision["val_shares"]), decision["f1_exponent"]
    named_for_f1 = name_classes(calibrated, shares, exponent=exponent)
    return Outputs(softmax(logits), calibrated, crowd, named=label, named_for_f1=named_for_f1)


def read_learnt_from(path: Path, metadata: Mapping[str, Any]) -> list[LearntFrom]:
    """Read the sources with rows from the model card beside an exported file.

    The list is empty if there is no card, or it is of other weights.
    """
    card = path.with_name(CARD_FILE)
    text = card.read_text("utf-8") if card.is_file() else ""
    if not all(f"`{sha256[:12]}`" in text for sha256 in metadata["weights_sha256"].values()):
        return []
    # dataset, format, a column for each stage, licence
    tables = (table.splitlines() for table in text.split("\n\n"))
    table = next((t for t in tables if t[0].startswith("| dataset | format |")), [])
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    sources = []
    for name, _format, *counts, licence in cells[2:]:
        stages = (title.removesuffix(", rows") for title in cells[0][2:-1])
        rows = {stage: int(n.replace(",", "")) for stage, n in zip(stages, counts, strict=True)}
        if any(rows.values()):
            sources.append(LearntFrom(name, rows, html.unescape(licence.strip("*"))))
    return sources


def drawn_alone(sources: Iterable[LearntFrom]) -> bool:
    """Return whether all sources are drawn, as those of the sample are by their licence."""
    return all(_DRAWN in source.licence for source in sources)
