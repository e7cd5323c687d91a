import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest

from stages.runtime.errors import UserError
from stages.sources.members import UnreadableMemberError
from stages.sources.pictures import PictureIndex
from stages.sources.tree import open_tree

KEY = "standardize.sources.x.path"
posix = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are other things there")


def test_members_are_sorted_and_without_litter(make_tree):
    tree = make_tree(
        {
            "b/2.png": b"2",
            "a/1.png": b"1",
            "__MACOSX/a/._1.png": b"x",
            "a/.hidden": b"x",
            "a/Thumbs.db": b"x",
            ".git/config": b"x",
        }
    )
    assert tree.members == ("a/1.png", "b/2.png")
    assert tree.read("b/2.png") == b"2"


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


@pytest.mark.parametrize("name", ["eaDir", "@user_1.png", "#1.png", "icon.png", "~1.png", "thumbs"])
def test_names_that_only_look_like_litter_are_members(make_tree, name):
    assert make_tree({f"train/sad/{name}": b"1"}).members == (f"train/sad/{name}",)


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


def write_in_order(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def test_a_folder_has_the_hash_of_its_names_and_bytes(tmp_path: Path):
    files = {"b.txt": b"2", "a/1.png": b"1"}
    first = hash_of(write_in_order(tmp_path / "first", files))
    assert hash_of(write_in_order(tmp_path / "again", dict(reversed(files.items())))) == first
    others = [files | {"b.txt": b"3"}, {"c.txt": b"2", "a/1.png": b"1"}, {"a/1.png": b"1"}]
    hashes = {hash_of(write_in_order(tmp_path / str(n), other)) for n, other in enumerate(others)}
    assert len(hashes | {first}) == 4


def test_a_zip_has_the_hash_of_its_own_bytes(tmp_path: Path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"the picture")
    first = hash_of(path)
    assert first == hashlib.sha256(path.read_bytes()).hexdigest()
    # Broken, and its directory still says the same.
    path.write_bytes(path.read_bytes().replace(b"the picture", b"THE picture"))
    assert hash_of(path) != first


def test_incident_D6_a_shuffled_listing_gives_the_same_tree(tmp_path: Path, monkeypatch):
    for name in "cab":
        (tmp_path / name).write_bytes(name.encode())
    walk = os.walk

    def shuffled(*args, **kwargs):
        for folder, folders, names in walk(*args, **kwargs):
            yield folder, folders, sorted(names, reverse=True)

    with open_tree(tmp_path, key=KEY) as tree:
        first = tree.content_sha256(), tree.members
    monkeypatch.setattr(os, "walk", shuffled)
    with open_tree(tmp_path, key=KEY) as tree:
        assert (tree.content_sha256(), tree.members) == first


def test_find_looks_below_extra_folders_and_past_letter_case(make_tree):
    tree = make_tree({"extra/Label/LABEL.lst": b"", "extra/old_label.lst": b""})
    assert tree.find("label.lst") == "extra/Label/LABEL.lst"
    assert tree.find("label/label.lst") == "extra/Label/LABEL.lst"
    assert tree.find("none.lst") is None


def test_find_refuses_to_choose(make_tree):
    tree = make_tree({"a/label.lst": b"", "b/label.lst": b""})
    with pytest.raises(UserError, match=r"label.lst: expected one such file, found 2: .*a/label"):
        tree.find("label.lst")


def test_pictures_are_found_by_name_and_counted_when_unused(make_tree):
    tree = make_tree(
        {"Origin/x/a.JPG": b"", "origin/b.jpg": b"", "c.jpg": b"", "origin/d.txt": b""}
    )
    pictures = PictureIndex(tree.pictures_below("origin"))
    assert len(pictures) == 2
    assert pictures.find("a.jpg") == "Origin/x/a.JPG"
    assert pictures.find("c.jpg") is None
    assert pictures.unused() == ["origin/b.jpg"]


def test_two_pictures_of_one_name_are_an_error(make_tree):
    tree = make_tree({"origin/a.jpg": b"", "origin/origin/a.jpg": b""})
    with pytest.raises(UserError, match=r"a.jpg: expected once"):
        PictureIndex(tree.pictures_below("origin"))


def test_missing_or_wrong_path_names_the_params_key(tmp_path: Path):
    with pytest.raises(UserError, match=rf"params.yaml: {KEY}: expected a folder, a .zip"):
        open_tree(tmp_path / "none", key=KEY)
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(UserError, match=rf"{KEY}: cut.zip is neither a folder nor a whole zip"):
        open_tree(tmp_path / "cut.zip", key=KEY)


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


def test_letter_case_alone_makes_no_choice(make_tree):
    tree = make_tree({"origin/a.jpg": b"1", "origin/x/A.jpg": b"2", "origin/b.jpg": b""})
    pictures = PictureIndex(tree.pictures_below("origin"))
    assert pictures.find("a.jpg") == "origin/a.jpg"
    assert pictures.find("A.jpg") == "origin/x/A.jpg"
    assert pictures.find("a.JPG") is None
    assert pictures.find("B.JPG") == "origin/b.jpg"
