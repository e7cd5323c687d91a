"""The small project as a fixture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from small_project import IMAGES, draw, small_params, write_params

# A deadline per example would time the machine, not the code.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that makes the project's params; the current folder is the project."""
    draw(tmp_path / "raw" / "toy", images=IMAGES)
    monkeypatch.chdir(tmp_path)

    def configure(**changes: Any) -> Path:
        write_params(tmp_path, small_params(**changes))
        return tmp_path

    return configure
