"""What the user has stays out of git, whether it lies in a folder here or behind a link."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_project import ROOT

FOLDERS = (".work", ".venv", "standardized", "manifests", "models", "plots", "raw/full", "weights")
KEPT = ("raw/full", "weights")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in KEPT:
        (folder / name).mkdir(parents=True)
        (folder / name / ".gitkeep").touch()
    shutil.copy(ROOT / ".gitignore", folder)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    return folder


def git(folder: Path, *command: str) -> str:
    done = subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_reported_work_as_a_link_stays_out_of_git(repository: Path) -> None:
    scratch = repository.with_name("scratch")
    for name in FOLDERS:
        shutil.rmtree(repository / name, ignore_errors=True)
        (scratch / name).mkdir(parents=True)
        (scratch / name / "faces.zip").touch()
        (repository / name).symlink_to(scratch / name)
    git(repository, "add", "-A")
    kept = {".gitignore", *(f"{name}/.gitkeep" for name in KEPT)}
    assert set(git(repository, "ls-files").split()) <= kept


def test_git_takes_from_these_folders_only_what_dvc_writes_for_it(repository: Path) -> None:
    for name in FOLDERS:
        (repository / name / "sub").mkdir(parents=True, exist_ok=True)
        for file in ("faces.zip", "faces.zip.dvc", ".gitignore", "sub/faces.zip"):
            (repository / name / file).touch()
    git(repository, "add", "-A")
    files = (".gitkeep", ".gitignore", "faces.zip.dvc")
    kept = {".gitignore", *(f"{name}/{file}" for name in KEPT for file in files)}
    assert set(git(repository, "ls-files").split()) == kept
