"""An ONNX file on onnxruntime's CPU provider."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from stages.exporting.onnx_file import INPUT

Array = np.ndarray[Any, np.dtype[np.float32]]


def open_session(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """The file, ready to run on so many cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # An idle pool that spins takes the cores that torch, measured in turns with it, needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_session(session: onnxruntime.InferenceSession, images: Array) -> Array:
    """Probabilities (N, 7) of images (N, 3, S, S)."""
    probabilities: Array = session.run(["probabilities"], {INPUT: images})[0]
    return probabilities
