"""`python -m stages.export`: calibrated teachers -> models/export/ and metrics/export.json.

ONNX files of the teachers and of their ensemble, and soft labels of one view of the manifest.
Params: `calibrate.stage`, `calibrate.fusion`, `export`.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from stages.runtime.door import run_door

STANDARDIZED = Path("standardized")
MANIFESTS = Path("manifests")
MODELS = Path("models")
METRICS = Path("metrics/export.json")

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the (empty) command line, do the work, return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.export",
        description="Write ONNX files, checked against torch, and soft labels for distillation.",
    )
    parser.parse_args(argv)
    return run_door(work)


def work() -> None:
    """Load, label, export, check, publish; nothing is published unless all of it holds."""
    from stages.config import load_params
    from stages.exporting.bundle import read_bundle
    from stages.exporting.hashes import write_hash_manifest
    from stages.exporting.release import export_models
    from stages.exporting.soft_labels import write_soft_labels
    from stages.exporting.view import Faces, read_view
    from stages.loading.loader import choose_workers
    from stages.runtime.device import choose_device
    from stages.runtime.files import published_folder, write_json

    params = load_params()
    settings = params.export
    device = choose_device(params.machine.device)
    workers = choose_workers(params.machine.workers, device=device)
    bundle = read_bundle(MODELS, stage=params.calibrate.stage, fusion=params.calibrate.fusion)
    view = MANIFESTS / f"{settings.soft_labels_view}.csv"
    rows = read_view(view)
    faces = Faces(
        rows, standardized=STANDARDIZED, card=bundle.cards[0], device=device, workers=workers
    )
    with published_folder(MODELS / "export") as folder:
        images = faces.sample(settings.parity_rows)
        report = export_models(folder, bundle, images=images, settings=settings)
        logits = [faces.logits(member.model) for member in bundle.members.values()]
        labels = write_soft_labels(
            folder, rows, bundle.probabilities(logits), float32=settings.float32_logits
        )
        write_hash_manifest(folder, bundle, view=view, soft_labels=labels)
    write_json(METRICS, {"export": {bundle.stage: report | {"soft_labels": labels}}})
    logger.info("models/export: %d ONNX files, soft labels of %d rows", len(report), len(rows))


if __name__ == "__main__":
    raise SystemExit(main())
