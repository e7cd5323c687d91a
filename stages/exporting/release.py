"""A bundle and rows -> the files of models/export/, each written, checked and timed.

`<name>.onnx` and a `<name>.<variant>.onnx` for each variant; `teachers/<name>/` for torch.
"""

import logging
import time
from pathlib import Path

import torch

from stages.calibrating.calibration import no_fits
from stages.config import Export
from stages.exporting.bundle import Bundle, ExportedModel
from stages.exporting.checks import (
    ParityError,
    check_parity,
    file_probabilities,
    mean_with_interval,
    measure_latency,
    measure_loss,
    require_small_loss,
)
from stages.exporting.export_files import (
    HeldOutAccuracy,
    LatencyFile,
    ModelLatency,
    ModelParity,
    ParityFile,
)
from stages.exporting.metadata import Cut, describe
from stages.exporting.onnx_file import to_onnx, write_onnx
from stages.exporting.rows import ExportRows
from stages.exporting.variants import VARIANTS, require_smaller
from stages.modeling.weights import load_teacher, save_teacher
from stages.records.schema import targets_of

logger = logging.getLogger(__name__)


def export_bundle(
    folder: Path, bundle: Bundle, rows: ExportRows, *, cut: Cut, settings: Export
) -> tuple[ParityFile, LatencyFile]:
    """Write all models of a bundle for onnxruntime, and its teachers for torch.

    Raises:
        ParityError: if a file does not say what torch says, or a teacher does not load back.
        LossError: if a variant loses more accuracy than the recipe allows.
        SizeError: if a variant is hardly smaller than the fp32 file.
    """
    parity: dict[str, ModelParity] = {}
    latency: dict[str, ModelLatency] = {}
    for model in bundle.exported_models():
        path = folder / f"{model.name}.onnx"
        files, parity[model.name] = _export(path, model, rows, cut=cut, settings=settings)
        latency[model.name] = measure_latency(files, model.module, rows.images)
    for name, member in bundle.members.items():
        target = folder / "teachers" / name
        save_teacher(target, member.model, member.card)
        loaded, card = load_teacher(target)
        images = rows.images[:8]
        with torch.inference_mode():
            same = torch.equal(loaded(images), member.model(images))
        if not same or card != member.card:
            raise ParityError(f"teachers/{name}: does not load back as it was saved")
    return (
        ParityFile(stage=bundle.stage, models=parity),
        LatencyFile(stage=bundle.stage, models=latency),
    )


def _export(
    path: Path, model: ExportedModel, rows: ExportRows, *, cut: Cut, settings: Export
) -> tuple[dict[str, Path], ModelParity]:
    """Write one model as fp32 and as variants, and check them; the files by name."""
    start = time.perf_counter()
    metadata = describe(model.cards, calibration=model.calibration, cut=cut, opset=settings.opset)
    proto = to_onnx(model.module, image_size=rows.images.shape[-1], opset=settings.opset)
    write_onnx(path, proto, metadata=metadata | {"precision": "fp32"})
    seconds = time.perf_counter() - start
    parity = check_parity(
        path,
        model.module,
        rows.images,
        faces=rows.pictures,
        tolerance=settings.parity_tolerance,
    )
    logger.info(
        "%s: written in %.1f s, differs from torch by at most %.2g on %d rows",
        *(path.name, seconds, parity.max_abs_diff, parity.rows),
    )
    full = file_probabilities(path, rows.held_out_batches())
    files, losses = {"onnx": path}, {}
    for variant in settings.variants:
        files[variant] = small = path.with_suffix(f".{variant}.onnx")
        write_onnx(small, VARIANTS[variant](proto), metadata=metadata | {"precision": variant})
        require_smaller(variant, small, full=path)
        smaller = file_probabilities(small, rows.held_out_batches())
        losses[variant] = loss = measure_loss(full, smaller, rows.held_out)
        require_small_loss(small.name, loss, allowed=settings.max_accuracy_loss)
        logger.info(
            "%s: %.1f MB, loses %.4f of the accuracy on %d %s rows",
            *(small.name, small.stat().st_size / 1e6, loss.accuracy_loss, loss.n, rows.split),
        )
    no_fit = no_fits([model.calibration])
    hits = full.argmax(axis=1) == targets_of(rows.held_out)
    accuracy, interval = mean_with_interval(hits.astype(float), rows.held_out)
    held_out = HeldOutAccuracy(
        split=rows.split,
        n=len(hits),
        accuracy=accuracy,
        accuracy_95=interval,
        mean_top_probability=float(full.max(axis=1).mean()),
        label_rule="majority",
        fitted_on=f"val ({no_fit})" if no_fit else "val",
        weights_sha256=metadata["weights_sha256"],
    )
    return files, ModelParity(parity=parity, held_out=held_out, variants=losses)
