"""The small project in which one class is rare, with its manifest made once."""

import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from small_project import IMAGES, draw

from tests.training.small_run import write_run_params


@pytest.fixture(scope="session")
def manifested_rare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with two faces of Disgust to train on; tests copy it."""
    from stages import manifest, standardize

    folder = tmp_path_factory.mktemp("manifested_rare")
    draw(folder / "raw" / "toy", images=IMAGES)
    for picture in sorted((folder / "raw" / "toy" / "train" / "Disgust").iterdir())[2:]:
        picture.unlink()
    write_run_params(folder)
    with chdir(folder):
        assert standardize.main([]) == 0
        assert manifest.main([]) == 0
    return folder


@pytest.fixture
def rare(
    manifested_rare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """A function that sets params of the copied project; it is the current folder."""
    shutil.copytree(manifested_rare, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def configure(**changes: Any) -> Path:
        return write_run_params(tmp_path, **changes)

    return configure
