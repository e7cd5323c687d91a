"""Does an ONNX file say what torch says? onnxruntime and the reference script against torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.exporting.onnx_file import OUTPUTS
from stages.exporting.reference import Expressions
from stages.exporting.session import Array, open_session, run_session
from stages.faces.decode import Image
from stages.runtime.errors import UserError

# Of the reference script: its steps before the model are its own, not only its runtime.
REFERENCE_TOLERANCE = 1e-3

# The first batches are uneven so that a batch size that was frozen into the graph shows.
_FIRST_BATCHES = (1, 5)
_BATCH = 32


class ParityError(UserError):
    """The ONNX file and the torch model disagree: the export is no result."""


def check_parity(
    path: Path, model: nn.Module, images: Tensor, *, tolerance: float
) -> dict[str, Any]:
    """Compare the probabilities of the file and of the module on `images` (N, 3, S, S).

    Raises:
        ParityError: if the largest absolute difference is above `tolerance`, or not a number.
    """
    session = open_session(path, threads=torch.get_num_threads())
    expected = torch_probabilities(model, images)
    found = np.concatenate([run_session(session, batch.numpy()) for batch in _batches(images)])
    max_abs_diff = float(np.abs(expected - found).max())
    # Not `>`: a NaN on either side must fail as well.
    if not max_abs_diff <= tolerance:
        raise ParityError(
            f"{path.name}: probabilities of onnxruntime and torch differ by {max_abs_diff:.3g} on "
            f"{len(images)} rows; expected at most export.parity_tolerance = {tolerance:g}"
        )
    changes = int((expected.argmax(1) != found.argmax(1)).sum())
    return {"n": len(images), "max_abs_diff": max_abs_diff, "top_class_changes": changes}


def check_reference(
    path: Path, model: nn.Module, images: Tensor, *, faces: Sequence[Image]
) -> dict[str, float]:
    """Compare what the reference script makes of faces (RGB) with torch on the training's input.

    Raises:
        ParityError: if a probability differs by more than `REFERENCE_TOLERANCE`, or is none.
    """
    found = Expressions(path, threads=torch.get_num_threads()).probabilities(faces)
    max_abs_diff = float(np.abs(torch_probabilities(model, images) - found).max())
    if not max_abs_diff <= REFERENCE_TOLERANCE:
        raise ParityError(
            f"{path.name}: probabilities of reference.py, by the file's metadata, and of torch "
            f"differ by {max_abs_diff:.3g} on {len(faces)} faces; expected at most "
            f"{REFERENCE_TOLERANCE:g}"
        )
    return {"reference_max_abs_diff": max_abs_diff}


def torch_probabilities(model: nn.Module, images: Tensor) -> Array:
    """What a module says of images, batch by batch, (N, 7)."""
    with torch.inference_mode():
        parts = [model(batch)[OUTPUTS.index("probabilities")] for batch in _batches(images)]
    probabilities: Array = torch.cat(parts).numpy()
    return probabilities


def _batches(images: Tensor) -> Iterator[Tensor]:
    start = 0
    sizes = iter(_FIRST_BATCHES)
    while start < len(images):
        size = next(sizes, _BATCH)
        yield images[start : start + size]
        start += size
