import os
import sys
from pathlib import Path

import pytest

from stages.runtime.errors import UserError
from stages.runtime.watched import check_watched

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
DEP = Path("raw")
WORDS = {"key": "standardize.sources.x.path", "instead": "copy it"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project with raw/ds/train/1.png, and the same folder on another disk."""
    for folder in ("project/raw/ds/train", "disk/ds/train"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").write_bytes(b"1")
    (tmp_path / "project" / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def check(path: str, *, dep: Path = DEP, file: str = "train/1.png") -> None:
    check_watched(dep / path, dep=dep, files=[dep / path / file], **WORDS)


def refusal(path: str, *, dep: Path = DEP, file: str = "train/1.png") -> str:
    with pytest.raises(UserError) as stop:
        check(path, dep=dep, file=file)
    return str(stop.value)


def test_files_of_a_plain_folder_are_watched(project: Path) -> None:
    check("ds")
    check_watched(DEP / "ds/train/1.png", dep=DEP, files=[DEP / "ds/train/1.png"], **WORDS)


@posix
@pytest.mark.parametrize("link", ["linked", "ds/linked", "ds/train/deep/er"])
def test_reported_a_linked_folder_at_any_depth_is_refused(project: Path, link: str) -> None:
    (project / "raw" / link).parent.mkdir(parents=True, exist_ok=True)
    (project / "raw" / link).symlink_to(project.parent / "disk/ds")
    source, _, below = link.partition("/")
    said = refusal(source, file=f"./{below}/train/1.png")
    assert said.startswith(f"params.yaml: {WORDS['key']}: raw/{link} is a linked folder")
    assert said.endswith("; copy it")


@posix
def test_reported_a_path_through_a_linked_folder_is_refused(project: Path) -> None:
    (project / "raw/linked").symlink_to(project.parent / "disk")
    assert "raw/linked is a linked folder" in refusal("linked/ds")
    # A zip, or a model file, behind it.
    file = DEP / "linked/ds/train/1.png"
    with pytest.raises(UserError, match="raw/linked is a linked folder"):
        check_watched(file, dep=DEP, files=[file], **WORDS)


@posix
def test_linked_files_and_a_linked_dep_are_watched(project: Path) -> None:
    (project / "raw/ds/train/2.png").symlink_to(project.parent / "disk/ds/train/1.png")
    check("ds", file="train/2.png")
    (project / "linked").symlink_to(project.parent / "disk")
    check("ds", dep=Path("linked"))
    check("ds", dep=project.parent / "disk")


@posix
def test_a_linked_folder_beside_what_is_read_does_not_matter(project: Path) -> None:
    (project / "raw/other").symlink_to(project.parent / "disk")
    check("ds")


@posix
def test_a_linked_folder_below_another_disk_is_refused(project: Path) -> None:
    disk = project.parent / "disk"
    (disk / "linked").symlink_to(project / "raw/ds")
    assert f"{disk.as_posix()}/linked is a linked folder" in refusal("linked", dep=disk)


def test_a_junction_is_named_as_a_linked_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".dvcignore").write_text("ds/\n")  # hidden as DVC would not enter a junction
    monkeypatch.setattr(os.path, "isjunction", lambda path: Path(path).name == "ds", raising=False)
    assert "raw/ds is a linked folder" in refusal("ds")


@pytest.mark.parametrize(
    ("place", "pattern"),
    [(".", "*.png"), (".", "/raw/ds/"), (".", "raw"), ("raw", "train"), ("raw", "ds/train/1.png")],
)
def test_reported_what_dvcignore_hides_is_refused(project: Path, place: str, pattern: str) -> None:
    (project / place / ".dvcignore").write_text(f"# a comment\n{pattern}\n")
    assert "DVC does not see raw/ds/train/1.png: .dvcignore names it" in refusal("ds")


def test_what_dvcignore_lets_through_is_watched(project: Path) -> None:
    (project / ".dvcignore").write_text("__pycache__/\n*.png\n!1.png\n/ds\n")
    check("ds")


@pytest.mark.parametrize("folder", ["raw/ds", "raw/ds/train"])
def test_reported_a_dvc_project_inside_raw_is_refused(project: Path, folder: str) -> None:
    (project / folder / ".dvc").mkdir()
    assert "a DVC project of its own" in refusal("ds")


def test_the_dvcignore_of_a_project_above_counts(project: Path) -> None:
    (project / ".dvc").rename(project.parent / ".dvc")
    (project.parent / ".dvcignore").write_text("project/raw/ds/train\n")
    assert "DVC does not see raw/ds/train/1.png" in refusal("ds")
