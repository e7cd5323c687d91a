"""What the user has stays out of git, whether it lies in a folder here or behind a link."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_project import ROOT

FOLDERS = (".work", ".venv", "standardized", "manifests", "models", "plots", "raw/full", "weights")
KEPT = ("raw/full", "weights")
links = pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")


@pytest.mark.parametrize("linked", [False, pytest.param(True, marks=links)])
def test_reported_work_as_a_link_stays_out_of_git(tmp_path: Path, linked: bool) -> None:
    repository, scratch = tmp_path / "project", tmp_path / "scratch"
    repository.mkdir()
    shutil.copy(ROOT / ".gitignore", repository)
    for name in FOLDERS:
        folder = (scratch if linked else repository) / name
        (folder / "sub").mkdir(parents=True)
        for file in (".gitkeep", "faces.zip", "faces.zip.dvc", ".gitignore", "sub/faces.zip"):
            (folder / file).touch()
        if linked:
            (repository / name).parent.mkdir(exist_ok=True)
            (repository / name).symlink_to(folder)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=repository, check=True)
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.split()
    # In a folder git takes only what DVC writes for it.
    files = (".gitkeep", ".gitignore", "faces.zip.dvc")
    kept = [] if linked else [f"{name}/{file}" for name in KEPT for file in files]
    assert sorted(tracked) == sorted([".gitignore", *kept])
