"""The small project as fixtures: with its raw pictures only, and with its manifest made."""

import shutil
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from small_project import IMAGES, draw, fill_small, small_params, write_params

# A deadline per example would time the machine, not the code.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that makes the project's params; the current folder is the project."""
    draw(tmp_path / "raw" / "toy", images=IMAGES)
    monkeypatch.chdir(tmp_path)
    return partial(_configure, tmp_path)


@pytest.fixture(scope="session")
def manifested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small project with its manifest, made once; tests copy it."""
    from stages import manifest, standardize

    folder = tmp_path_factory.mktemp("manifested")
    fill_small(folder)
    with chdir(folder):
        assert standardize.main([]) == 0
        assert manifest.main([]) == 0
    return folder


@pytest.fixture
def prepared(
    manifested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """A function that sets params of a project with its manifest; it is the current folder."""
    shutil.copytree(manifested, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return partial(_configure, tmp_path)


def _configure(folder: Path, **changes: Any) -> Path:
    write_params(folder, small_params(**changes))
    return folder
