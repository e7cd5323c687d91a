"""A project of synthetic predictions."""

from pathlib import Path

import pytest
from shipped import shipped

from stages.calibrating.published import STAGES, read_manifest_folder, read_teacher
from stages.calibrating.study import Study, study
from stages.config import Calibrate
from tests.calibrating.run_folder import build_run_folder
from tests.scoring.conftest import draw

__all__ = ["draw"]

INIT_FROM = {"stageB": None}
WEIGHTS = {"RN18": 0.7, "B3": 0.3}


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as calibrate finds it; tests only read it."""
    return build_run_folder(tmp_path_factory.mktemp("run"), per_split=120)


@pytest.fixture(scope="session")
def settings() -> Calibrate:
    """Few draws: what is tested does not hang on them."""
    return shipped(Calibrate, weights=WEIGHTS, bootstrap_samples=50)


@pytest.fixture(scope="session")
def read(run_folder: Path):
    """The project's manifest and its teachers by stage."""
    manifest = read_manifest_folder(run_folder / "manifests")
    teachers = {
        stage: [
            read_teacher(run_folder / "models" / stage / name, manifest=manifest)
            for name in WEIGHTS
        ]
        for stage in STAGES
    }
    return manifest, teachers


@pytest.fixture(scope="session")
def studied(read, settings: Calibrate) -> Study:
    """All models of the project."""
    manifest, teachers = read
    return study(teachers, manifest=manifest, settings=settings, seed=7, init_from=INIT_FROM)
