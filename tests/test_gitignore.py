"""What the user has stays out of git, whether it lies in a folder here or behind a link."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_reported_work_as_a_link_stays_out_of_git(repository: Path) -> None:
    scratch = repository.with_name("scratch")
    for name in FOLDERS:
        shutil.rmtree(repository / name, ignore_errors=True)
        (scratch / name).mkdir(parents=True)
        (scratch / name / "faces.zip").touch()
        (repository / name).symlink_to(scratch / name)
    git(repository, "add", "-A")
    assert set(git(repository, "ls-files").split()) <= {
        ".gitignore",
        *(f"{n}/.gitkeep" for n in KEPT),
    }


def test_of_folders_git_takes_what_is_dvcs(repository: Path) -> None:
    for name in FOLDERS:
        (repository / name / "sub").mkdir(parents=True, exist_ok=True)
        for file in ("faces.zip", "faces.zip.dvc", ".gitignore", "sub/faces.zip"):
            (repository / name / file).touch()
    git(repository, "add", "-A")
    kept = {f"{n}/{file}" for n in KEPT for file in (".gitkeep", ".gitignore", "faces.zip.dvc")}
    assert set(git(repository, "ls-files").split()) == {".gitignore", *kept}


def git(folder: Path, *command: str) -> str:
    done = subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout
