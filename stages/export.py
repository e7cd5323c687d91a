"""`python -m stages.export`: calibrated teachers -> models/export/ and metrics/export.json.

ONNX files of the teachers and of their ensemble with a reference script, soft labels of one view of
the manifest, and a model card. Params: `standardize` (how faces were cut, licences) and `export`;
which stage and fusion are exported stands in calibration.json.
"""

import logging
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door

STANDARDIZED = Path("standardized")
MANIFESTS = Path("manifests")
MODELS = Path("models")
METRICS = Path("metrics/export.json")

logger = logging.getLogger(__name__)


def work() -> None:
    """Load, export, check, label, publish; nothing is published unless all of it holds."""
    from stages.calibrating.score_table import read_scores
    from stages.config import load_params
    from stages.exporting.bundle import export_bundle, read_bundle
    from stages.exporting.export_files import ENSEMBLE
    from stages.exporting.hash_manifest import write_hash_manifest
    from stages.exporting.metadata import describe_face
    from stages.exporting.model_card import scores_of, training_rows, write_model_card
    from stages.exporting.rows import FaceReader, choose_rows
    from stages.exporting.soft_labels import label_rows, write_soft_labels
    from stages.runtime.files import published_folder, write_json

    params = load_params()
    settings, cutting = params.export, params.standardize
    view = MANIFESTS / f"{settings.soft_labels_view}.csv"
    bundle = read_bundle(MODELS)
    scores = scores_of(read_scores(MODELS / "calibrated" / "scores.csv"), bundle)
    learnt = training_rows(MODELS, bundle.card)
    face = describe_face(STANDARDIZED, margin=cutting.crop_margin, max_side_px=cutting.max_side_px)
    reader = FaceReader(STANDARDIZED, params.machine)
    rows = choose_rows(view, MODELS, bundle.ensemble.cards, reader=reader, settings=settings)
    with published_folder(MODELS / "export") as folder:
        parity = export_bundle(folder, bundle, rows, face=face, settings=settings)
        labels = write_soft_labels(
            folder,
            rows.labelled,
            label_rows(bundle.ensemble, rows, settings=settings),
            seen=rows.seen,
            held_out=parity.models[ENSEMBLE].held_out,
            settings=settings,
        )
        write_model_card(
            folder,
            bundle,
            scores,
            opset=settings.opset,
            sources=cutting.sources,
            rows=learnt,
            parity=parity,
            labels=labels,
        )
        write_hash_manifest(folder, bundle, view=view, soft_labels=labels)
    write_json(METRICS, parity.metrics())
    logger.info(
        "models/export: %d models, soft labels of %d rows", len(parity.models), len(rows.labelled)
    )


main = partial(run_door, work, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
