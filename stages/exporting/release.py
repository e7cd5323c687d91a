"""A bundle -> ONNX files of each teacher and of the ensemble, each written, checked and timed.

`<name>.onnx` and a `<name>.<variant>.onnx` for each variant; `teachers/<name>/` for torch.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.calibrating.calibration import Calibration, no_fits
from stages.config import Export
from stages.exporting import reference
from stages.exporting.bundle import ENSEMBLE, Bundle
from stages.exporting.calibrated import CalibratedEnsemble, CalibratedTeacher
from stages.exporting.evidence import Evidence
from stages.exporting.held_out import HeldOut, accuracy_of, measure_loss, require_small_loss
from stages.exporting.latency import measure_latency
from stages.exporting.metadata import Cut, describe
from stages.exporting.onnx_file import to_onnx, write_onnx
from stages.exporting.parity import ParityError, check_parity, check_reference
from stages.exporting.variants import VARIANTS, require_smaller
from stages.modeling.card import TeacherCard
from stages.modeling.weights import load_teacher, save_teacher
from stages.runtime.files import write_bytes
from stages.scoring.metrics import Floats

logger = logging.getLogger(__name__)

Report = dict[str, Any]


def export_models(
    folder: Path, bundle: Bundle, *, evidence: Evidence, cut: Cut, settings: Export
) -> dict[str, Report]:
    """Write all ONNX files of a bundle; a report of parity, losses and speed for each, by name.

    Raises:
        ParityError: if a file does not say what torch says.
        LossError: if a variant loses more accuracy than the recipe allows.
        SizeError: if a variant is hardly smaller than the fp32 file.
    """
    models: dict[str, tuple[nn.Module, list[TeacherCard], Calibration]] = {
        name: (
            CalibratedTeacher(member.model, calibration=member.calibration),
            [member.card],
            member.calibration,
        )
        for name, member in bundle.members.items()
    }
    teachers = [member.model for member in bundle.members.values()]
    ensemble = CalibratedEnsemble(teachers, calibration=bundle.calibration)
    models[ENSEMBLE] = (ensemble, bundle.cards, bundle.calibration)
    return {
        name: _export(
            folder / f"{name}.onnx",
            model.eval(),
            describe(cards, calibration=calibration, cut=cut, opset=settings.opset),
            fitted_on=f"val ({note})" if (note := no_fits([calibration])) else "val",
            evidence=evidence,
            settings=settings,
        )
        for name, (model, cards, calibration) in models.items()
    }


def export_teachers(folder: Path, bundle: Bundle, *, images: Tensor) -> None:
    """Write `teachers/<name>/` for `load_teacher`, and see that it gives the same logits back.

    Raises:
        ParityError: if it does not.
    """
    for name, member in bundle.members.items():
        target = folder / "teachers" / name
        save_teacher(target, member.model, member.card)
        loaded, card = load_teacher(target)
        with torch.inference_mode():
            same = torch.equal(loaded(images[:8]), member.model(images[:8]))
        if not same or card != member.card:
            raise ParityError(f"teachers/{name}: does not load back as it was saved")


def copy_reference(folder: Path) -> None:
    """Put the reference script beside the files that it uses, as it stands here."""
    write_bytes(folder / "reference.py", Path(reference.__file__).read_bytes())


def _export(
    path: Path,
    model: nn.Module,
    metadata: Report,
    *,
    fitted_on: str,
    evidence: Evidence,
    settings: Export,
) -> Report:
    start = time.perf_counter()
    proto = to_onnx(model, image_size=evidence.images.shape[-1], opset=settings.opset)
    write_onnx(path, proto, metadata=metadata | {"precision": "fp32"})
    seconds = time.perf_counter() - start
    report = check_parity(path, model, evidence.images, tolerance=settings.parity_tolerance)
    report |= check_reference(path, model, evidence.images, faces=evidence.pictures)
    logger.info(
        "%s: written in %.1f s, differs from torch by at most %.2g on %d rows",
        path.name, seconds, report["max_abs_diff"], report["n"],
    )  # fmt: skip
    report["bytes"] = path.stat().st_size
    full = evidence.held.probabilities(path)
    hashes = list(metadata["weights_sha256"].values())
    report["held_out"] = accuracy_of(
        full, evidence.held, weights_sha256=hashes, fitted_on=fitted_on
    )
    files = {"onnx": path}
    for name in settings.variants:
        files[name] = path.with_suffix(f".{name}.onnx")
        write_onnx(files[name], VARIANTS[name](proto), metadata=metadata | {"precision": name})
        require_smaller(name, files[name], full=path)
        report[name] = _weigh(files[name], full, evidence.held, settings)
    return report | measure_latency(files, model, evidence.images)


def _weigh(path: Path, full: Floats, held: HeldOut, settings: Export) -> Mapping[str, Any]:
    """Size and loss of a variant."""
    found = measure_loss(full, held.probabilities(path), held)
    require_small_loss(path.name, found, allowed=settings.max_accuracy_loss)
    logger.info(
        "%s: %.1f MB, loses %.4f of the accuracy on %d %s rows",
        path.name, path.stat().st_size / 1e6, found["accuracy_loss"], found["n"], held.split,
    )  # fmt: skip
    return {"bytes": path.stat().st_size} | found
