"""Saved logits -> temperatures, fusion, the verdict on the stages, and all numbers.

    python -m stages.calibrate

In: params.yaml, manifests/, models/<stage>/<teacher>/ of both stages; no image is read.
Out: models/calibrated/calibration.json, metrics/teachers.json, plots/data/teachers/.
"""

import logging
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door

logger = logging.getLogger(__name__)


def work() -> None:
    """Read everything, fit everything, then write; nothing is written if anything is wrong."""
    from stages.calibrating.published import STAGES, read_manifest_folder, read_teacher
    from stages.calibrating.report import calibration_json, metrics_json
    from stages.calibrating.study import study
    from stages.calibrating.tables import write_plot_data
    from stages.config import load_params
    from stages.runtime.files import published_folder, write_json

    params = load_params()
    settings = params.calibrate
    manifest = read_manifest_folder(Path("manifests"))
    teachers = {
        stage: [
            read_teacher(Path("models", stage, name), manifest=manifest) for name in params.teachers
        ]
        for stage in STAGES
    }
    found = study(
        teachers,
        manifest=manifest,
        settings=settings,
        seed=params.seed,
        init_from={"stageB": params.stageB.init_from},
    )
    calibration = calibration_json(found, settings=settings)
    metrics = metrics_json(found, settings=settings)
    with published_folder(Path("models/calibrated")) as folder:
        write_json(folder / "calibration.json", calibration)
    write_json(Path("metrics/teachers.json"), metrics)
    everyone = [one for stage in STAGES for one in teachers[stage]]
    with published_folder(Path("plots/data/teachers")) as folder:
        write_plot_data(
            folder,
            assessments=found.assessments,
            teachers=everyone,
            metrics=metrics,
            bins=settings.bins,
        )
    logger.info("%s", found.verdict.says)


main = partial(run_door, work, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
