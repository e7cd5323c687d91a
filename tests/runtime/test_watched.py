"""Files that DVC does not see are refused, also on disks that open a file under other spellings."""

import os
import sys
import unicodedata
from pathlib import Path

import pytest

from stages.runtime.errors import UserError
from stages.runtime.watched import check_watched

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
SHORT = {"ferplu~1": "ferplus", "zlinke~1": "zlinked"}  # Windows has such second names
COMPOSED, DECOMPOSED = "Caf\N{LATIN SMALL LETTER E WITH ACUTE}", "Cafe\N{COMBINING ACUTE ACCENT}"
RAW = ("ds/train/1.png", "Ferplus/Train/1.png", "Zips/Big.zip", f"{COMPOSED}/1.png", "Other/1.png")


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """raw/ of a DVC project on a disk that ignores letter case and how letters are composed."""
    for file in (*(f"project/raw/{file}" for file in RAW), "disk/ds/train/1.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(file.encode())
    (tmp_path / "project" / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: lstat(lenient(path)))
    monkeypatch.setattr(Path, "lstat", lambda path: lstat(lenient(path)))
    return Path("raw")


def lenient(path: str | os.PathLike[str]) -> Path:
    """Return the file that such a disk opens."""
    here = Path(Path(path).anchor)
    for part in Path(path).parts[len(here.parts) :]:
        alike = [file.name for file in here.iterdir() if folded(file.name) == folded(part)]
        here /= part if part in alike or not alike else alike[0]
    return here


def folded(name: str) -> str:
    same = unicodedata.normalize("NFC", name).casefold()
    return SHORT.get(same, same)


def check(path: str, *files: str) -> None:
    dep = Path("raw")
    read = [dep / path / file for file in files] or [dep / path]
    check_watched(dep / path, dep=dep, files=read, key="x.path", instead="copy it")


def refusal(path: str, *files: str) -> str:
    with pytest.raises(UserError) as stop:
        check(path, *files)
    return str(stop.value)


@posix
@pytest.mark.parametrize(
    ("link", "path", "file"),
    [
        ("linked", "linked", "./train/1.png"),
        ("ds/linked", "ds", "./linked/train/1.png"),
        ("ds/train/deep/er", "ds", "train/deep/er/train/1.png"),
        pytest.param("linked", "linked/train", "1.png", id="test_reported_a_path_through_a_linked_folder_is_refused"),
        ("linked", "linked/train/1.png", ""),  # a zip, or a model file, behind it
    ],
)  # fmt: skip
def test_reported_a_linked_folder_at_any_depth_is_refused(raw, link, path, file) -> None:
    (raw / link).parent.mkdir(parents=True, exist_ok=True)
    (raw / link).symlink_to(Path("../disk/ds").resolve())
    message = refusal(path, *[file] if file else [])
    assert message.startswith(f"params.yaml: x.path: raw/{link} is a linked folder")
    assert message.endswith("; copy it")
    # A linked folder beside what is read does not matter.
    check("ds", "train/1.png")
    check("ds/train/1.png")


@pytest.mark.parametrize(
    ("place", "pattern"),
    [(".", "*.png"), (".", "/raw/ds/"), (".", "raw"), ("raw", "train"), ("raw", "ds/train/1.png"), ("..", "project/raw/ds/train")],
)  # fmt: skip
def test_reported_what_dvcignore_hides_is_refused(raw, place, pattern, monkeypatch) -> None:
    Path(".dvc").rename(Path("../.dvc" if place == ".." else ".dvc"))
    Path(".dvcignore").write_text("__pycache__/\n*.png\n!1.png\n/ds\n")
    check("ds", "train/1.png")
    Path(place, ".dvcignore").write_text(f"# a comment\n{pattern}\n")
    message = refusal("ds", "train/1.png")
    assert "DVC does not see raw/ds/train/1.png: .dvcignore names it" in message
    # So is a junction, which DVC would not enter.
    monkeypatch.setattr(os.path, "isjunction", lambda path: Path(path).name == "ds", raising=False)
    assert "raw/ds is a linked folder" in refusal("ds", "train/1.png")


def test_reported_a_dvc_project_inside_raw_is_refused(raw: Path) -> None:
    (raw / "ds" / ".dvc").mkdir()
    assert "a DVC project of its own" in refusal("ds", "train/1.png")


def test_reported_what_the_disk_spells_otherwise_is_watched(raw: Path) -> None:
    for path in ("FERPLUS/train", "FERPLU~1/Train", DECOMPOSED, "cAFE\N{COMBINING ACUTE ACCENT}"):
        assert lenient(raw / path / "1.png").is_file()
        check(path, "1.png")
    for path in ("ferplus/train/1.PNG", "zips/big.ZIP"):
        check(path)


def test_reported_a_folder_in_a_zip_that_the_disk_spells_otherwise(raw: Path) -> None:
    file = raw / "zips/big.ZIP"
    check_watched(file / "Inner", dep=raw, files=[file], key="x.path", instead="copy it")


@posix
@pytest.mark.parametrize("target", ["raw/Ferplus", "../disk/ds"])
def test_a_linked_folder_under_another_spelling_is_refused(raw: Path, target: str) -> None:
    for link in ("Zlinked", "Other/Linked"):
        (raw / link).symlink_to(Path(target).resolve())
    for spelling in ("zLINKED", "ZLINKE~1"):
        assert "raw/Zlinked is a linked folder" in refusal(spelling, "Train/1.png")
    assert "raw/Other/Linked is a linked folder" in refusal("other", "Linked/Train/1.png")


@posix
def test_links_to_a_file_under_another_spelling_are_watched_as_links(raw: Path) -> None:
    (raw / "Zlinked.zip").symlink_to((raw / "Zips/Big.zip").resolve())
    check("zlinked.ZIP")
    Path(".dvcignore").write_text("Zlinked.zip\nBig.zip\n/raw/FERPLUS/\n")
    assert "DVC does not see raw/Zlinked.zip" in refusal("zlinked.ZIP")
    # A hard link does not stand in for a hidden file.
    (raw / "Zips/A.zip").hardlink_to(raw / "Zips/Big.zip")
    for spelling in ("zips/big.zip", "zips/Big.zip"):
        assert "DVC does not see raw/Zips/Big.zip" in refusal(spelling)
    check("zips/a.zip")
