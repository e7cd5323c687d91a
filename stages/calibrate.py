"""Saved logits -> temperatures, fusion, the verdict on the stages, and all numbers.

    python -m stages.calibrate

In: params.yaml, manifests/, models/<stage>/<teacher>/ of both stages; no image is read.
Out: models/calibrated/, metrics/teachers.json, plots/data/teachers/.
"""

import logging
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door

logger = logging.getLogger(__name__)


def work() -> None:
    """Read everything, fit everything, then write; nothing is written if anything is wrong."""
    from stages.calibrating.calibration_file import write_calibration
    from stages.calibrating.plot_data import write_plot_data
    from stages.calibrating.published import STAGES, read_teacher
    from stages.calibrating.score_table import write_scores
    from stages.calibrating.study import headline_metrics, study
    from stages.config import load_params
    from stages.records.folder import read_folder
    from stages.runtime.files import published_folder, write_json

    params = load_params()
    manifest = read_folder(Path("manifests"))
    teachers = {
        stage: [
            read_teacher(Path("models", stage, name), manifest=manifest)
            for name in params.calibrate.teachers
        ]
        for stage in STAGES
    }
    results = study(
        teachers,
        manifest=manifest,
        settings=params.calibrate,
        seed=params.seed,
        models_folder=Path("models"),
    )
    metrics = headline_metrics(results)
    with published_folder(Path("models/calibrated")) as folder:
        write_calibration(folder, results.calibration)
        write_scores(folder / "scores.csv", results.scores)
        write_scores(folder / "paired.csv", results.paired)
    write_json(Path("metrics/teachers.json"), metrics)
    with published_folder(Path("plots/data/teachers")) as folder:
        write_plot_data(
            folder,
            reported=results.reported,
            teachers=[teacher for stage in STAGES for teacher in teachers[stage]],
            scores=results.scores,
            bins=params.calibrate.bins,
        )
    logger.info("%s", results.calibration.verdict.says)


main = partial(run_door, work, __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
