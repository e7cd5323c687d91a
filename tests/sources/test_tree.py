import os
import zipfile
from pathlib import Path

import pytest

from stages.runtime.errors import UserError
from stages.sources.tree import UnreadableMemberError, open_tree

KEY = "standardize.sources.x.path"


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


def test_the_same_files_have_the_same_hash_as_folder_and_zip(tmp_path: Path):
    files = {"b.txt": b"2", "a/1.png": b"1"}
    for name, content in files.items():
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with open_tree(tmp_path / "d", key=KEY) as one, open_tree(tmp_path / "d.zip", key=KEY) as two:
        assert one.content_sha256() == two.content_sha256()
    (tmp_path / "d" / "b.txt").write_bytes(b"3")
    with open_tree(tmp_path / "d", key=KEY) as three, open_tree(tmp_path / "d.zip", key=KEY) as two:
        assert three.content_sha256() != two.content_sha256()


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
    pictures = tree.pictures_below("origin")
    assert len(pictures) == 2
    assert pictures.find("a.jpg") == "Origin/x/a.JPG"
    assert pictures.find("c.jpg") is None
    assert pictures.unused() == ["origin/b.jpg"]


def test_two_pictures_of_one_name_are_an_error(make_tree):
    tree = make_tree({"origin/a.jpg": b"", "origin/origin/a.jpg": b""})
    with pytest.raises(UserError, match=r"a.jpg: expected once"):
        tree.pictures_below("origin")


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "c:/evil.png"])
def test_a_zip_that_points_outside_is_refused(tmp_path: Path, name: str):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(UserError, match=rf"{KEY}: x.zip: member .* outside"):
        open_tree(tmp_path / "x.zip", key=KEY)


def test_backslashes_in_a_zip_are_folders(tmp_path: Path):
    info = zipfile.ZipInfo("a.png")
    info.filename = "folder\\a.png"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, b"x")
    with open_tree(tmp_path / "x.zip", key=KEY) as tree:
        assert tree.members == ("folder/a.png",)
        assert tree.read("folder/a.png") == b"x"


def test_a_broken_member_is_unreadable_and_leaves_the_hash_defined(tmp_path: Path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"the picture")
    data = path.read_bytes().replace(b"the picture", b"THE picture")
    path.write_bytes(data)
    with open_tree(path, key=KEY) as tree:
        with pytest.raises(UnreadableMemberError, match=r"a.png: BadZipFile"):
            tree.read("a.png")
        assert len(tree.content_sha256()) == 64


def test_missing_or_wrong_path_names_the_params_key(tmp_path: Path):
    with pytest.raises(UserError, match=rf"params.yaml: {KEY}: expected a folder or a .zip"):
        open_tree(tmp_path / "none", key=KEY)
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(UserError, match=rf"{KEY}: cut.zip is neither a folder nor a whole zip"):
        open_tree(tmp_path / "cut.zip", key=KEY)


def test_letters_are_composed_wherever_the_archive_was_made(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("cafe\u0301.png", b"x")
    with open_tree(tmp_path / "x.zip", key=KEY) as tree:
        assert tree.members == ("caf\u00e9.png",)
        assert tree.read("caf\u00e9.png") == b"x"
