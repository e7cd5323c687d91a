import hashlib
import os
import sys
from pathlib import Path

import pytest
from raw_sources import shuffle_listings

from stages.runtime.errors import UserError
from stages.sources.members import UnreadableMemberError
from stages.sources.tree import open_tree
from tests.sources.conftest import in_memory, write_folder, write_zip

KEY = "standardize.sources.x.path"
posix = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are other things there")
LITTER = [
    "Icon\r", "Thumbs.db", "ehthumbs.db", "Desktop.ini", ".DS_Store", ".AppleDouble", ".Trashes",
    ".Spotlight-V100", ".thumbnails", ".Trash-1000", ".nfs0001", ".~lock.a.png#", ".snapshot",
    ".stfolder", ".dropbox.cache", ".dvc", ".git",
]  # fmt: skip
FOLDERS_OF_LITTER = [
    "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found", "@eaDir", "#recycle",
    "#snapshot", "@Recycle", "@Recently-Snapshot", "~snapshot", ".@__thumb", "__pycache__",
    "Network Trash Folder",
]  # fmt: skip
KINDS = {"._1.png": "._*", "~$1.png": "~$*", "1.png@SynoResource": "*@synoresource"}
KINDS |= {"SYNOPHOTO_THUMB_M.jpg": "synophoto_thumb*"}


def test_reported_what_nas_boxes_and_file_managers_leave_is_no_member(make_tree, caplog):
    files = {f"train/{name}": b"x" for name in [*LITTER, *KINDS]}
    files |= {f"train/{name}/{n}.png": b"x" for name in FOLDERS_OF_LITTER for n in (1, 2)}
    twice = ["__MACOSX", ".DS_Store", "@eaDir"]
    files |= {f"{name}/1.png": b"x" for name in twice}
    likenesses = ["#1.png", "@user_1.png", "eaDir", "icon.png", "thumbs", "~1.png"]
    with caplog.at_level("INFO"):
        tree = make_tree(files | {f"train/{name}": name for name in likenesses})
    assert tree.members == tuple(f"train/{name}" for name in likenesses)
    assert tree.read("train/~1.png") == b"~1.png"
    kinds = dict.fromkeys([*LITTER, *FOLDERS_OF_LITTER, *KINDS.values()], 1)
    assert tree.litter == kinds | dict.fromkeys(twice, 2)
    shown = "left out what systems leave behind: '.DS_Store' 2, '@eaDir' 2, '__MACOSX' 2, "
    assert shown in caplog.text
    assert caplog.text.endswith(", …\n")


def hash_of(path: Path) -> str:
    with open_tree(path, key=KEY) as tree:
        return tree.content_sha256()


def test_a_folder_has_the_hash_of_its_names_and_bytes_and_a_zip_of_its_own(tmp_path: Path):
    files = {"b.txt": b"2", "a/1.png": b"1"}
    first = hash_of(write_folder(tmp_path / "first", files))
    others = [files | {"b.txt": b"3"}, {"c.txt": b"2", "a/1.png": b"1"}, {"a/1.png": b"1"}]
    hashes = {hash_of(write_folder(tmp_path / str(n), other)) for n, other in enumerate(others)}
    assert len(hashes | {first}) == 4
    path = write_zip(tmp_path / "x.zip", {"a.png": b"the picture"})
    assert hash_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_incident_D6_a_shuffled_listing_gives_the_same_tree(tmp_path: Path, monkeypatch):
    write_folder(tmp_path, {f"{folder}/{name}": name for folder in "yx" for name in "cabd"})
    first = hash_of(tmp_path)
    shuffle_listings(monkeypatch, seed=1)
    assert hash_of(tmp_path) == first


def test_find_looks_below_extra_folders_past_letter_case_and_refuses_to_choose():
    tree = in_memory({"extra/Label/LABEL.lst": b"", "x/old.lst": b"", "y/Old.lst": b""})
    assert tree.find("none.lst", "label.lst") == "extra/Label/LABEL.lst"
    assert tree.find("label/label.lst") == "extra/Label/LABEL.lst"
    assert tree.find("none.lst") is None
    with pytest.raises(UserError, match=r"old.lst: expected one such file, found 2: .*x/old"):
        tree.find("old.lst")


# --- what a disk or an archive may hold ----------------------------------------------------------


def lock(monkeypatch, name: str) -> None:
    """Refuse to list folders of that name."""
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


@posix
def test_reported_litter_that_nobody_may_list_or_name_stops_nothing(tmp_path: Path, monkeypatch):
    write_folder(tmp_path, {"lost+found/x": b"", "a.png": b"1"})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/.\xff.png")).write_bytes(b"x")
    lock(monkeypatch, "lost+found")
    with open_tree(tmp_path, key=KEY) as tree:
        assert tree.members == ("a.png",)
        assert len(tree.content_sha256()) == 64


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch):
    data = write_folder(tmp_path / "data", {"locked/1.png": b"x", "a.png": b"x"})
    lock(monkeypatch, "locked")
    words = rf"{KEY}: data cannot be listed: Permission denied: .*lock"
    with pytest.raises(UserError, match=words):
        open_tree(data, key=KEY)


@posix
def test_links_are_followed_loops_end_and_what_is_no_file_is_unreadable(tmp_path: Path):
    data = write_folder(tmp_path / "data", {"a/b/1.png": b"1", "gone.png": b"x"})
    write_folder(tmp_path / "other disk", {"2.png": b"2"})
    for link, target in {
        "linked": tmp_path / "other disk",
        "loop": data,
        "a/up": data,
        "a/b/same": data / "a" / "b",
        "self": data / "self",
        "dead.png": tmp_path / "nowhere",
    }.items():
        (data / link).symlink_to(target)
    os.mkfifo(data / "pipe.png")
    unreadable = ("dead.png", "gone.png", "pipe.png", "self")
    with open_tree(data, key=KEY) as tree:
        assert tree.members == tuple(sorted([*unreadable, "a/b/1.png", "linked/2.png"]))
        (data / "gone.png").unlink()
        for name in unreadable:
            with pytest.raises(UnreadableMemberError, match=rf"{name}: (FileNotFound|OS)Error"):
                tree.read(name)
        assert len(tree.content_sha256()) == 64


def test_a_file_larger_than_any_picture_is_not_read(tmp_path: Path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(256 * 2**20 + 1)
    with (
        open_tree(tmp_path, key=KEY) as tree,
        pytest.raises(UnreadableMemberError, match=r"a.png: 268,435,457 bytes, expected at most"),
    ):
        tree.read("a.png")


def test_names_that_are_not_utf8_are_an_error(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"x")
    with pytest.raises(UserError, match=r"has a member whose name is not UTF-8: '\\udcff.png'"):
        open_tree(tmp_path, key=KEY)


def test_archives_inside_are_named_and_not_opened(make_tree, caplog):
    tree = make_tree({"Image/aligned.zip": b"PK", "Image/original.TAR": b"", "list.txt": b""})
    assert len(tree.members) == 3
    assert "not opened: 2 archives, ['Image/aligned.zip', 'Image/original.TAR']" in caplog.text
