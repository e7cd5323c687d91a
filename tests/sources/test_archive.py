"""Zips as people download them: broken, hostile, oddly named; and folders inside them."""

import zipfile
from pathlib import Path

import pytest

from stages.runtime.errors import UserError
from stages.sources.members import UnreadableMemberError
from stages.sources.tree import open_tree
from tests.sources.conftest import write_zip

KEY = "standardize.sources.x.path"


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "c:/evil.png"])
def test_a_zip_that_points_outside_is_refused(tmp_path: Path, name: str):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(UserError, match=rf"{KEY}: x.zip has a member .* outside"):
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


def test_letters_are_composed_wherever_the_archive_was_made(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("cafe\u0301.png", b"x")
    with open_tree(tmp_path / "x.zip", key=KEY) as tree:
        assert tree.members == ("caf\u00e9.png",)
        assert tree.read("caf\u00e9.png") == b"x"


def broken_zip(path: Path, *, old: bytes, new: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    """A zip of a.png with bytes replaced afterwards; it must hold them."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.png", b"the picture " * 30)
    data = path.read_bytes()
    assert data.count(old) >= 1
    path.write_bytes(data.replace(old, new))
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_an_entry_twice_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", b"1")
        archive.writestr("a.png", b"2")
    with pytest.raises(UserError, match=rf"{KEY}: x.zip has two members 'a.png'"):
        open_tree(tmp_path / "x.zip", key=KEY)


def test_an_encrypted_zip_is_refused(tmp_path: Path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"x")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 0x1  # general purpose flags of the directory's entry
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"has an encrypted member, 'a.png'; unpack"):
        open_tree(path, key=KEY)


def test_an_unknown_compression_is_unreadable(tmp_path: Path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"x")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = data[8] = 97
    path.write_bytes(data)
    with open_tree(path, key=KEY) as tree:
        with pytest.raises(UnreadableMemberError, match=r"a.png: NotImplementedError"):
            tree.read("a.png")
        assert len(tree.content_sha256()) == 64


def test_a_member_that_claims_an_absurd_size_is_not_unpacked(tmp_path: Path):
    size, claimed = (360).to_bytes(4, "little"), (2**31).to_bytes(4, "little")
    path = broken_zip(tmp_path / "x.zip", old=size, new=claimed, method=zipfile.ZIP_DEFLATED)
    with (
        open_tree(path, key=KEY) as tree,
        pytest.raises(UnreadableMemberError, match=r"a.png: 2,147,483,648 bytes, expected at most"),
    ):
        tree.read("a.png")


def test_a_zip_whose_members_overlap_is_refused(tmp_path: Path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"x" * 1000)
        (whole,) = archive.infolist()
        for number in range(9):
            twin = zipfile.ZipInfo(f"{number}.png")
            twin.header_offset, twin.CRC = whole.header_offset, whole.CRC
            twin.file_size = twin.compress_size = whole.file_size
            archive.filelist.append(twin)
    with pytest.raises(UserError, match=r"is broken, or a zip bomb: its members take 10,000 bytes"):
        open_tree(path, key=KEY)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_whose_packed_bytes_are_broken_is_unreadable(tmp_path: Path, method: int):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.png", bytes(range(256)) * 9)
    data = bytearray(path.read_bytes())
    data[100:110] = bytes(byte ^ 0xFF for byte in data[100:110])
    path.write_bytes(data)
    with open_tree(path, key=KEY) as tree, pytest.raises(UnreadableMemberError, match=r"a.png: "):
        tree.read("a.png")


def test_names_in_utf8_are_read_where_the_archive_does_not_say_so(tmp_path: Path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("caf\u00e9.png", b"x")
    data = bytearray(path.read_bytes())
    for place in (7, data.index(b"PK\x01\x02") + 9):
        assert data[place] == 0x08
        data[place] = 0
    path.write_bytes(data)
    with open_tree(path, key=KEY) as tree:
        assert tree.members == ("caf\u00e9.png",)
        assert tree.read("caf\u00e9.png") == b"x"


def test_names_of_old_windows_are_kept_as_they_are(tmp_path: Path):
    info = zipfile.ZipInfo("x.png")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, b"x")
    path = tmp_path / "x.zip"
    path.write_bytes(path.read_bytes().replace(b"x.png", b"\x82.png"))
    with open_tree(path, key=KEY) as tree:
        assert tree.members == ("\u00e9.png",)
        assert tree.read("\u00e9.png") == b"x"


def test_names_that_begin_at_the_dot_are_not_hidden(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("./train//sad/1.png", b"x")
    with open_tree(tmp_path / "x.zip", key=KEY) as tree:
        assert tree.members == ("train/sad/1.png",)


def test_reported_a_folder_inside_a_zip_is_a_path(tmp_path: Path):
    files = {"d/é/train/sad/1.png": b"1", "d/é/train/sad/.x": b"", "d/éa/train/sad/2.png": b"2"}
    path = write_zip(tmp_path / "x.zip", files)
    with open_tree(path / "d" / "e\u0301", key=KEY) as tree:
        assert tree.members == ("train/sad/1.png",)
        assert tree.read("train/sad/1.png") == b"1"
        assert tree.litter == {".x": 1}
        with open_tree(path, key=KEY) as whole:
            assert tree.content_sha256() == whole.content_sha256()


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ("b", r"x.zip holds no folder 'b'; its folders: \['a', 'a/deep'\]"),
        ("A", r"x.zip holds no folder 'A'"),
        ("a/in.zip", r"x.zip holds a file 'a/in.zip', expected a folder \(unpack it"),
        ("a/in.zip/b", r"x.zip holds no folder 'a/in.zip/b'"),
    ],
)
def test_reported_a_folder_that_a_zip_has_not_is_named(tmp_path: Path, inner: str, message: str):
    path = write_zip(tmp_path / "x.zip", {"a/in.zip": b"PK", "a/deep/1.png": b"1"})
    with pytest.raises(UserError, match=rf"^params.yaml: {KEY}: {message}"):
        open_tree(path / inner, key=KEY)


def test_a_folder_in_what_is_no_zip_is_an_error(tmp_path: Path):
    (tmp_path / "x.tar").write_bytes(b"x")
    with pytest.raises(UserError, match=rf"{KEY}: x.tar is neither a folder nor a whole zip"):
        open_tree(tmp_path / "x.tar" / "a", key=KEY)
    with pytest.raises(UserError, match=rf"{KEY}: expected a folder, a .zip or a folder inside"):
        open_tree(tmp_path / "y.zip" / "a", key=KEY)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_litter_that_stands_twice_in_a_zip_stops_nothing(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("__MACOSX/a.png", "__MACOSX/a.png", "a.png"):
            archive.writestr(name, b"1")
    with open_tree(tmp_path / "x.zip", key=KEY) as tree:
        assert tree.members == ("a.png",)
