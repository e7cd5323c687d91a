"""Synthetic predictions whose truth is known, and a project of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.calibrating.published import STAGES, read_manifest_folder, read_teacher
from stages.calibrating.study import Study, study
from stages.config import Calibrate
from tests.calibrating.run_folder import build_run_folder

Drawn = tuple[np.ndarray, np.ndarray]
INIT_FROM = {"stageB": None}
WEIGHTS = {"RN18": 0.7, "B3": 0.3}


@pytest.fixture(scope="session")
def draw() -> Callable[..., Drawn]:
    """Logits (n, 7) and targets drawn from `softmax(logits)`: a perfectly calibrated model."""

    def build(n: int, *, seed: int = 0, spread: float = 1.5) -> Drawn:
        random = np.random.default_rng(seed)
        logits = random.normal(scale=spread, size=(n, 7))
        targets = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
        return logits, targets

    return build


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as calibrate finds it; tests only read it."""
    return build_run_folder(tmp_path_factory.mktemp("run"), per_split=120)


@pytest.fixture(scope="session")
def settings() -> Calibrate:
    """Few draws: what is tested does not hang on them."""
    return Calibrate(weights=WEIGHTS, bootstrap_samples=50)


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
