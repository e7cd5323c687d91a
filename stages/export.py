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
SCORES = Path("metrics/teachers.json")
METRICS = Path("metrics/export.json")

logger = logging.getLogger(__name__)


def work() -> None:
    """Load, label, export, check, publish; nothing is published unless all of it holds."""
    from stages.config import load_params
    from stages.exporting.bundle import read_bundle
    from stages.exporting.evidence import gather
    from stages.exporting.hashes import write_hash_manifest
    from stages.exporting.metadata import read_cut
    from stages.exporting.model_card import Facts, write_model_card
    from stages.exporting.release import copy_reference, export_models, export_teachers
    from stages.exporting.schema import check_export_metrics
    from stages.exporting.scores import read_scores
    from stages.exporting.soft_labels import write_soft_labels
    from stages.exporting.training_rows import rows_by_source
    from stages.exporting.view import Preparation, read_view
    from stages.runtime.files import published_folder, write_json

    params = load_params()
    settings, cutting = params.export, params.standardize
    bundle = read_bundle(MODELS)
    scores = read_scores(SCORES, bundle)
    rows = rows_by_source(MODELS, bundle.stage, teacher=bundle.cards[0].teacher)
    cut = read_cut(STANDARDIZED, margin=cutting.crop_margin, max_side_px=cutting.max_side_px)
    view = MANIFESTS / f"{settings.soft_labels_view}.csv"
    labelled = read_view(view)
    preparation = Preparation(STANDARDIZED, bundle.cards[0], params.machine)
    with published_folder(MODELS / "export") as folder:
        evidence = gather(MANIFESTS, MODELS, bundle, preparation=preparation, settings=settings)
        report = export_models(folder, bundle, evidence=evidence, cut=cut, settings=settings)
        export_teachers(folder, bundle, images=evidence.images)
        copy_reference(folder)
        faces = preparation.faces(labelled)
        logits = [faces.logits(member.model) for member in bundle.members.values()]
        labels = write_soft_labels(
            folder, labelled, bundle.probabilities(logits), seen=evidence.seen, settings=settings
        )
        facts = Facts(bundle, settings.opset, cutting.sources, rows, scores, report, labels)
        write_model_card(folder, facts)
        write_hash_manifest(folder, bundle, view=view, soft_labels=labels)
        metrics = {"export": {bundle.stage: report | {"soft_labels": labels}}}
        check_export_metrics(metrics)
    write_json(METRICS, metrics)
    logger.info("models/export: %d models, soft labels of %d rows", len(report), len(labelled))


main = partial(run_door, work, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
