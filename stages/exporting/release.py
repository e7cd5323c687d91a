"""A bundle -> `<teacher>.onnx` and `ensemble.onnx`, each written, checked and timed."""

import logging
import time
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stages.config import Export
from stages.exporting.bundle import ENSEMBLE, Bundle
from stages.exporting.calibrated import CalibratedEnsemble, CalibratedTeacher
from stages.exporting.metadata import describe
from stages.exporting.onnx_file import to_onnx, write_onnx
from stages.exporting.parity import check_parity, measure_latency

logger = logging.getLogger(__name__)


def export_models(
    folder: Path, bundle: Bundle, *, images: Tensor, settings: Export
) -> dict[str, dict[str, Any]]:
    """Write all ONNX files of a bundle; a report of parity and latency for each, by name.

    Args:
        images: (N, 3, S, S), real rows to compare onnxruntime with torch on.

    Raises:
        ParityError: if a file does not say what torch says.
    """
    report = {}
    for name, member in bundle.members.items():
        model = CalibratedTeacher(member.model, temperature=member.temperature)
        metadata = describe([member.card], weights={name: 1.0}, temperature=member.temperature)
        report[name] = _export(folder / f"{name}.onnx", model, metadata, images, settings)
    ensemble = CalibratedEnsemble(
        [member.model for member in bundle.members.values()],
        weights=list(bundle.weights.values()),
        temperature=bundle.temperature,
    )
    metadata = describe(bundle.cards, weights=bundle.weights, temperature=bundle.temperature)
    report[ENSEMBLE] = _export(folder / f"{ENSEMBLE}.onnx", ensemble, metadata, images, settings)
    return report


def _export(
    path: Path, model: nn.Module, metadata: dict[str, Any], images: Tensor, settings: Export
) -> dict[str, Any]:
    start = time.perf_counter()
    model.eval()
    proto = to_onnx(model, image_size=images.shape[-1], opset=settings.opset)
    write_onnx(path, proto, metadata=metadata)
    seconds = time.perf_counter() - start
    parity = check_parity(path, model, images, tolerance=settings.parity_tolerance)
    logger.info(
        "%s: written in %.1f s, differs from torch by at most %.2g on %d rows",
        path.name, seconds, parity["max_abs_diff"], parity["n"],
    )  # fmt: skip
    return parity | measure_latency(path, model, images)
