"""Disks that open a file under other spellings of its name, as on Windows and macOS."""

import os
import sys
import unicodedata
from pathlib import Path

import pytest

from stages.runtime.errors import UserError
from stages.runtime.watched import check_watched

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
DEP = Path("raw")
SHORT = {"ferplu~1": "ferplus", "zlinke~1": "zlinked"}  # Windows has such second names
COMPOSED, DECOMPOSED = "Caf\N{LATIN SMALL LETTER E WITH ACUTE}", "Cafe\N{COMBINING ACUTE ACCENT}"


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """raw/ of a DVC project, on a disk that ignores letter case and how letters are composed."""
    for file in ("Ferplus/Train/1.png", "Zips/Big.zip", f"{COMPOSED}/1.png", "Other/1.png"):
        (tmp_path / "raw" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / file).write_bytes(file.encode())
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: lstat(lenient(path)))
    monkeypatch.setattr(Path, "lstat", lambda path: lstat(lenient(path)))
    return Path("raw")


def lenient(path: str | os.PathLike[str]) -> Path:
    """The file that such a disk opens."""
    given = Path(path)
    here = Path(given.anchor)
    for part in given.parts[len(here.parts) :]:
        alike = [file.name for file in here.iterdir() if folded(file.name) == folded(part)]
        here /= part if part in alike or not alike else alike[0]
    return here


def folded(name: str) -> str:
    same = unicodedata.normalize("NFC", name).casefold()
    return SHORT.get(same, same)


def check(path: str, *files: str) -> None:
    read = [DEP / path / file for file in files] or [DEP / path]
    check_watched(DEP / path, dep=DEP, files=read, key="x.path", instead="copy it")


def refusal(path: str, *files: str) -> str:
    with pytest.raises(UserError) as stop:
        check(path, *files)
    return str(stop.value)


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("ferplus", "Train/1.png"),
        ("FERPLUS/train", "1.png"),
        ("ferplus/train/1.PNG", ""),
        ("FERPLU~1", "Train/1.png"),
        ("zips/big.ZIP", ""),
        (DECOMPOSED, "1.png"),
        ("cAFE\N{COMBINING ACUTE ACCENT}", "1.png"),
    ],
)
def test_reported_what_the_disk_spells_otherwise_is_watched(
    raw: Path, path: str, file: str
) -> None:
    assert lenient(raw / path / file).is_file()
    check(path, *[file] if file else [])


def test_reported_a_folder_in_a_zip_that_the_disk_spells_otherwise(raw: Path) -> None:
    file = raw / "zips/big.ZIP"
    check_watched(file / "Inner", dep=raw, files=[file], key="x.path", instead="copy it")


def test_a_refusal_names_what_the_disk_has(raw: Path) -> None:
    Path(".dvcignore").write_text("Train/\n")
    assert "DVC does not see raw/Ferplus/Train/1.png" in refusal("ferplus", "Train/1.png")


@posix
@pytest.mark.parametrize("target", ["raw/Ferplus", "disk"])
def test_a_linked_folder_under_another_spelling_is_refused(raw: Path, target: str) -> None:
    Path("disk/Train").mkdir(parents=True)
    Path("disk/Train/1.png").write_bytes(b"1")
    (raw / "Zlinked").symlink_to(Path.cwd() / target)
    for spelling in ("zLINKED", "ZLINKE~1"):
        assert "raw/Zlinked is a linked folder" in refusal(spelling, "Train/1.png")
    (raw / "Other/Linked").symlink_to(Path.cwd() / target)
    assert "raw/Other/Linked is a linked folder" in refusal("other", "Linked/Train/1.png")


@posix
def test_a_linked_file_under_another_spelling_is_watched_as_a_link(raw: Path) -> None:
    (raw / "Zlinked.zip").symlink_to(Path.cwd() / "raw/Zips/Big.zip")
    check("zlinked.ZIP")
    Path(".dvcignore").write_text("Zlinked.zip\n")
    assert "DVC does not see raw/Zlinked.zip" in refusal("zlinked.ZIP")


@posix
def test_a_hard_link_does_not_stand_in_for_a_hidden_file(raw: Path) -> None:
    (raw / "Zips/A.zip").hardlink_to(raw / "Zips/Big.zip")
    Path(".dvcignore").write_text("Big.zip\n")
    assert "DVC does not see raw/Zips/Big.zip" in refusal("zips/big.zip")
    assert "DVC does not see raw/Zips/Big.zip" in refusal("zips/Big.zip")
    check("zips/a.zip")


@posix
def test_names_that_letter_case_tells_apart_are_two(raw: Path) -> None:
    if (raw / "FERPLUS").exists():
        pytest.skip("this disk ignores letter case")
    (raw / "FERPLUS").mkdir()
    (raw / "FERPLUS/1.png").write_bytes(b"1")
    Path(".dvcignore").write_text("/raw/FERPLUS/\n")
    assert "DVC does not see raw/FERPLUS/1.png" in refusal("FERPLUS", "1.png")
    check("Ferplus", "Train/1.png")
    (raw / "Zips/BIG.zip").hardlink_to(raw / "Zips/Big.zip")
    Path(".dvcignore").write_text("Big.zip\n")
    assert "DVC does not see raw/Zips/Big.zip" in refusal("Zips/Big.zip")
