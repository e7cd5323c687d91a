import hashlib
import os
import sys
from pathlib import Path

import pytest

from stages.runtime.errors import UserError
from stages.sources.members import UnreadableMemberError
from stages.sources.pictures import PictureIndex
from stages.sources.tree import open_tree
from tests.sources.conftest import write_folder, write_zip

KEY = "standardize.sources.x.path"
posix = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are other things there")


LITTER = {
    "__MACOSX": 2, "Icon\r": 1, "Network Trash Folder": 1,
    "Thumbs.db": 2, "ehthumbs.db": 1, "Desktop.ini": 1, "$RECYCLE.BIN": 1,
    "System Volume Information": 1, "lost+found": 1,
    "@eaDir": 2, "#recycle": 1, "#snapshot": 1, "@Recycle": 1, "@Recently-Snapshot": 1,
    "~snapshot": 1, ".@__thumb": 1, ".DS_Store": 2, ".AppleDouble": 1, ".Trashes": 1,
    ".Spotlight-V100": 1, ".fseventsd": 1, ".thumbnails": 1, ".Trash-1000": 1, ".nfs0001": 1,
    ".~lock.a.png#": 1, ".ipynb_checkpoints": 1, ".snapshot": 1, ".stfolder": 1, ".stversions": 1,
    ".dropbox.cache": 1, ".dvc": 1, ".git": 1, "__pycache__": 1,
}  # fmt: skip
FOLDERS_OF_LITTER = [
    "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found", "@eaDir", "#recycle",
    "#snapshot", "@Recycle", "@Recently-Snapshot", "~snapshot", ".@__thumb", "__pycache__",
    "Network Trash Folder",
]  # fmt: skip


def test_reported_what_nas_boxes_and_file_managers_leave_is_no_member(make_tree, caplog):
    files = {"train/sad/1.png": b"1"}
    for name, number in LITTER.items():
        for folder in ("train/sad/", "")[:number]:
            inside = ["/1.png/SYNOPHOTO_THUMB_M.jpg", "/2.png"]
            names = inside if name in FOLDERS_OF_LITTER else [""]
            files |= {f"{folder}{name}{end}": b"x" for end in names}
    more = ["._1.png", "._2.png", "~$1.png", "SYNOPHOTO_THUMB_M.jpg", "1.png@SynoResource"]
    files |= {f"train/sad/{name}": b"x" for name in more}
    with caplog.at_level("INFO"):
        tree = make_tree(files)
    assert tree.members == ("train/sad/1.png",)
    kinds = {"._*": 2, "~$*": 1, "synophoto_thumb*": 1, "*@synoresource": 1}
    assert tree.litter == LITTER | kinds
    assert (
        "left out what systems leave behind: '.DS_Store' 2, '._*' 2, '@eaDir' 2, 'Thumbs.db' 2, '__MACOSX' 2, …"
        in caplog.text
    )


def test_members_are_sorted_and_may_look_like_litter(make_tree):
    names = ["~1.png", "eaDir", "@user_1.png", "#1.png", "icon.png", "thumbs"]
    tree = make_tree({f"sad/{name}": name for name in names})
    assert tree.members == tuple(sorted(f"sad/{name}" for name in names))
    assert tree.read("sad/~1.png") == b"~1.png"


@posix
def test_reported_litter_that_nobody_may_list_or_name_stops_nothing(tmp_path: Path, monkeypatch):
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "a.png").write_bytes(b"1")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/.\xff.png")).write_bytes(b"x")
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with open_tree(tmp_path, key=KEY) as tree:
        assert tree.members == ("a.png",)
        assert len(tree.content_sha256()) == 64


def hash_of(path: Path) -> str:
    with open_tree(path, key=KEY) as tree:
        return tree.content_sha256()


def test_a_folder_has_the_hash_of_its_names_and_bytes_and_a_zip_of_its_own(tmp_path: Path):
    files = {"b.txt": b"2", "a/1.png": b"1"}
    first = hash_of(write_folder(tmp_path / "first", files))
    assert hash_of(write_folder(tmp_path / "again", dict(reversed(files.items())))) == first
    others = [files | {"b.txt": b"3"}, {"c.txt": b"2", "a/1.png": b"1"}, {"a/1.png": b"1"}]
    hashes = {hash_of(write_folder(tmp_path / str(n), other)) for n, other in enumerate(others)}
    assert len(hashes | {first}) == 4
    path = write_zip(tmp_path / "x.zip", {"a.png": b"the picture"})
    assert hash_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_incident_D6_a_shuffled_listing_gives_the_same_tree(tmp_path: Path, monkeypatch):
    write_folder(tmp_path, {name: name for name in "cab"})
    first, walk = hash_of(tmp_path), os.walk
    monkeypatch.setattr(
        os,
        "walk",
        lambda *args, **options: (
            (folder, folders, sorted(names, reverse=True))
            for folder, folders, names in walk(*args, **options)
        ),
    )
    assert hash_of(tmp_path) == first


def test_find_looks_below_extra_folders_past_letter_case_and_refuses_to_choose(make_tree):
    tree = make_tree({"extra/Label/LABEL.lst": b"", "x/old.lst": b"", "y/Old.lst": b""})
    assert tree.find("none.lst", "label.lst") == "extra/Label/LABEL.lst"
    assert tree.find("label/label.lst") == "extra/Label/LABEL.lst"
    assert tree.find("none.lst") is None
    with pytest.raises(UserError, match=r"old.lst: expected one such file, found 2: .*x/old"):
        tree.find("old.lst")


def test_pictures_are_found_by_name_and_counted_when_unused(make_tree):
    names = [
        "Origin/x/a.JPG",
        "origin/b.jpg",
        "origin/B.jpg",
        "origin/n.jpg",
        "c.jpg",
        "origin/d.txt",
    ]
    tree = make_tree(dict.fromkeys(names, b""))
    pictures = PictureIndex(tree.pictures_below("origin"))
    assert len(pictures) == 4
    assert pictures.find("a.jpg") == "Origin/x/a.JPG"
    assert pictures.find("c.jpg") is None
    # Where letter case alone tells two apart, only the exact name finds one.
    assert [pictures.find(name) for name in ("b.jpg", "b.JPG")] == ["origin/b.jpg", None]
    assert pictures.unused() == ["origin/B.jpg", "origin/n.jpg"]
    with pytest.raises(UserError, match=r"a.jpg: expected once, found origin/a.jpg and x/a.jpg"):
        PictureIndex(["origin/a.jpg", "x/a.jpg"])


# --- what a disk or an archive may hold ----------------------------------------------------------


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch):
    (tmp_path / "data" / "locked").mkdir(parents=True)
    (tmp_path / "data" / "a.png").write_bytes(b"x")
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(
        UserError, match=rf"{KEY}: data cannot be listed: Permission denied: .*lock"
    ):
        open_tree(tmp_path / "data", key=KEY)


@posix
def test_links_are_followed_and_loops_end(tmp_path: Path):
    data, disk = tmp_path / "data", tmp_path / "other disk"
    (data / "a" / "b").mkdir(parents=True)
    (data / "a" / "b" / "1.png").write_bytes(b"1")
    disk.mkdir()
    (disk / "2.png").write_bytes(b"2")
    for link, target in {
        "linked": disk, "loop": data, "a/up": data, "a/b/same": data / "a" / "b", "self": data / "self",
    }.items():  # fmt: skip
        (data / link).symlink_to(target)
    with open_tree(data, key=KEY) as tree:
        assert tree.members == ("a/b/1.png", "linked/2.png", "self")
        with pytest.raises(UnreadableMemberError, match=r"self: OSError"):
            tree.read("self")
        assert len(tree.content_sha256()) == 64


@posix
def test_a_file_that_vanished_or_is_none_is_unreadable(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "dead.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    with open_tree(tmp_path, key=KEY) as tree:
        (tmp_path / "a.png").unlink()
        for name in ("a.png", "dead.png", "pipe.png"):
            with pytest.raises(UnreadableMemberError, match=rf"{name}: (FileNotFound|OS)Error"):
                tree.read(name)


def test_a_file_larger_than_any_picture_is_not_read_and_yet_hashed(tmp_path: Path):
    size = 256 * 2**20 + 1
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "a.png").open("wb") as file:
            file.truncate(size)
    with (tmp_path / "two" / "a.png").open("r+b") as file:
        file.seek(size - 1)
        file.write(b"x")
    with open_tree(tmp_path / "one", key=KEY) as one, open_tree(tmp_path / "two", key=KEY) as two:
        with pytest.raises(
            UnreadableMemberError, match=r"a.png: 268,435,457 bytes, expected at most"
        ):
            one.read("a.png")
        assert one.content_sha256() != two.content_sha256()


def test_names_that_are_not_utf8_are_an_error(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"x")
    with pytest.raises(UserError, match=r"has a member whose name is not UTF-8: '\\udcff.png'"):
        open_tree(tmp_path, key=KEY)


def test_names_that_differ_in_composition_alone_are_an_error(tmp_path: Path):
    for name in ("caf\u00e9.png", "cafe\u0301.png"):
        (tmp_path / name).write_bytes(b"x")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system composes names itself")
    with pytest.raises(UserError, match=r"has two members 'café.png'"):
        open_tree(tmp_path, key=KEY)


def test_archives_inside_are_named_and_not_opened(make_tree, caplog):
    tree = make_tree({"Image/aligned.zip": b"PK", "Image/original.TAR": b"", "list.txt": b""})
    assert len(tree.members) == 3
    assert "not opened: 2 archives, ['Image/aligned.zip', 'Image/original.TAR']" in caplog.text
