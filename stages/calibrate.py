"""Saved logits -> temperatures, fusion weights, numbers and pictures.

    python -m stages.calibrate

In: params.yaml, manifests/, models/<stage>/<teacher>/ of both stages; no image is read.
Out: models/calibrated/calibration.json, metrics/teachers.json, plots/{data/teachers,figures}/.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages.runtime.door import run_door


def main(argv: Sequence[str] | None = None) -> int:
    """Run the door and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.calibrate",
        description="Fit temperatures and fusion on saved logits; write numbers and plots.",
    )
    parser.parse_args(argv)
    return run_door(work)


def work() -> None:
    """Read everything, fit everything, then write; nothing is written if anything is wrong."""
    from stages.config import load_params
    from stages.evaluation.assessment import assess, stage_models
    from stages.evaluation.figures import write_figures
    from stages.evaluation.published import STAGES, read_manifest_folder, read_teacher
    from stages.evaluation.report import calibration_json, teachers_json
    from stages.evaluation.tables import write_plot_data
    from stages.runtime.files import published_folder, write_json

    params = load_params()
    settings, seed = params.calibrate, params.seed
    manifest = read_manifest_folder(Path("manifests"))
    teachers = {
        stage: [
            read_teacher(Path("models", stage, name), manifest=manifest) for name in params.teachers
        ]
        for stage in STAGES
    }
    assessments = [
        assess(model, manifest=manifest, settings=settings, seed=seed)
        for stage in STAGES
        for model in stage_models(teachers[stage], weights=settings.weights)
    ]
    calibration = calibration_json(assessments, manifest=manifest, settings=settings)
    metrics = teachers_json(assessments, manifest=manifest, settings=settings, seed=seed)
    with published_folder(Path("models/calibrated")) as folder:
        write_json(folder / "calibration.json", calibration)
    write_json(Path("metrics/teachers.json"), metrics)
    everyone = [one for stage in STAGES for one in teachers[stage]]
    for name, write in (("plots/data/teachers", write_plot_data), ("plots/figures", write_figures)):
        with published_folder(Path(name)) as folder:
            write(folder, assessments=assessments, teachers=everyone, bins=settings.bins)


if __name__ == "__main__":
    raise SystemExit(main())
