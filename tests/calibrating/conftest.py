"""A project of synthetic predictions."""

from collections.abc import Callable
from pathlib import Path

import pytest
from shipped import shipped

from stages.calibrating.calibration import Resampling
from stages.calibrating.published import STAGES, read_teacher
from stages.calibrating.study import Study, study
from stages.config import Calibrate
from stages.records.folder import read_folder
from tests.calibrating.run_folder import build_run_folder
from tests.scoring.conftest import draw

__all__ = ["draw"]

WEIGHTS = {"RN18": 0.7, "B3": 0.3}
# Few draws: what is tested does not hang on them.
SETTINGS = shipped(Calibrate, weights=WEIGHTS, bootstrap_samples=50)
RESAMPLING = Resampling(SETTINGS, 7)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as calibrate finds it; tests only read it."""
    return build_run_folder(tmp_path_factory.mktemp("run"), per_split=120)


@pytest.fixture(scope="session")
def read(run_folder: Path):
    """The project's manifest and its teachers by stage."""
    manifest = read_folder(run_folder / "manifests")
    folders = {
        stage: [run_folder / "models" / stage / name for name in WEIGHTS] for stage in STAGES
    }
    return manifest, {
        stage: [read_teacher(folder, manifest=manifest) for folder in of_stage]
        for stage, of_stage in folders.items()
    }


@pytest.fixture(scope="session")
def run_study(run_folder: Path, read) -> Callable[..., Study]:
    """Run `study` on the project, with some teachers, rows or settings changed."""
    manifest, teachers = read

    def run(changed=None, *, manifest=manifest, **settings) -> Study:
        return study(
            teachers | (changed or {}),
            manifest=manifest,
            settings=SETTINGS.model_copy(update=settings),
            seed=7,
            models_folder=run_folder / "models",
        )

    return run


@pytest.fixture(scope="session")
def studied(run_study) -> Study:
    """All models of the project."""
    return run_study()
