"""Zips as people download them: broken, hostile, oddly named; and folders inside them."""

import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.errors import UserError
from stages.sources import members
from stages.sources.members import MemberReader, UnreadableMemberError, open_zip
from stages.sources.tree import open_tree
from tests.sources.conftest import write_zip

KEY = "standardize.sources.x.path"
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
DATA = bytes(range(256)) * 9
DIRECTORY = b"PK\x01\x02"
Damage = Callable[[bytes], bytes]


def zip_of(path: Path, names: list[str], damage: Damage | None) -> Path:
    """Write a zip of members with these names as they are, and damage its bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, b"the picture " * 30)
    if damage is not None:
        path.write_bytes(damage(path.read_bytes()))
    return path


def patched(place: int, value: int) -> Damage:
    """Set a byte of the directory's first entry."""

    def damage(data: bytes) -> bytes:
        where = data.index(DIRECTORY) + place
        return data[:where] + bytes([value]) + data[where + 1 :]

    return damage


def overlap(data: bytes) -> bytes:
    """List the one member ten times."""
    start, end = data.index(DIRECTORY), data.index(b"PK\x05\x06")
    entry = data[start:end]
    entries = entry + b"".join(entry.replace(b"a.png", f"{n}.png".encode()) for n in range(9))
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 10, 10, len(entries))
    return data[:start] + entries + tail


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "damage", "words"),
    [
        *(
            ([name], None, "x.zip has a member .* outside")
            for name in ("../evil.png", "/evil.png", "a/../../evil.png", "c:/evil.png")
        ),
        (["a.png", "a.png"], None, "x.zip has two members 'a.png'"),
        (["a.png"], patched(8, 1), "has an encrypted member, 'a.png'; unpack"),
        (["a.png"], overlap, "is broken, or a zip bomb: its members take 3,600 bytes of"),
    ],
)
def test_a_zip_that_cannot_be_trusted_is_refused(tmp_path: Path, names, damage, words) -> None:
    with pytest.raises(UserError, match=rf"{KEY}: .*{words}"):
        open_tree(zip_of(tmp_path / "x.zip", names, damage), key=KEY)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (patched(10, 97), "NotImplementedError"),
        (patched(27, 128), "2,147,484,008 bytes, expected at most"),
    ],
)
def test_a_broken_member_is_unreadable_and_leaves_the_hash_defined(tmp_path, damage, words) -> None:
    with open_tree(zip_of(tmp_path / "x.zip", ["a.png"], damage), key=KEY) as tree:
        with pytest.raises(UnreadableMemberError, match=f"a.png: {words}"):
            tree.read("a.png")
        assert len(tree.content_sha256()) == 64


def without_utf8_flag(data: bytes) -> bytes:
    assert data[7] == 0x08
    return patched(9, 0)(data[:7] + b"\0" + data[8:])


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "damage", "expected"),
    [
        (["folder\\a.png"], None, "folder/a.png"),
        (["cafe\u0301.png"], None, "caf\u00e9.png"),
        (["caf\u00e9.png"], without_utf8_flag, "caf\u00e9.png"),
        (["x.png"], lambda data: data.replace(b"x.png", b"\x82.png"), "\u00e9.png"),  # old Windows
        (["./train//sad/1.png"], None, "train/sad/1.png"),
        (["__MACOSX/a.png", "__MACOSX/a.png", "a.png"], None, "a.png"),
    ],
)
def test_odd_names_are_read(tmp_path: Path, names, damage, expected) -> None:
    with open_tree(zip_of(tmp_path / "x.zip", names, damage), key=KEY) as tree:
        assert tree.members == (expected,)
        assert tree.read(expected).startswith(b"the picture")


# --- folders inside ----------------------------------------------------------------------------


def test_reported_a_folder_inside_a_zip_is_a_path(tmp_path: Path) -> None:
    files = {"d/é/train/sad/1.png": b"1", "d/é/train/sad/.x": b"", "d/éa/train/sad/2.png": b"2"}
    path = write_zip(tmp_path / "x.zip", files)
    with open_tree(path / "d" / "e\u0301", key=KEY) as tree, open_tree(path, key=KEY) as whole:
        assert tree.members == ("train/sad/1.png",)
        assert tree.read("train/sad/1.png") == b"1"
        assert tree.litter == {".x": 1}
        assert tree.content_sha256() == whole.content_sha256()


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ("x.zip/b", r"x.zip holds no folder 'b'; its folders: \['a', 'a/deep'\]"),
        ("x.zip/a/in.zip", r"x.zip holds a file 'a/in.zip', expected a folder \(unpack an"),
        ("x.zip/a/in.zip/b", r"x.zip holds no folder 'a/in.zip/b'"),
        ("x.tar/a", "x.tar is neither a folder nor a whole zip"),
        ("none.zip/a", "expected a folder, a .zip or a folder inside"),
    ],
)
def test_reported_a_folder_that_a_zip_has_not_is_named(tmp_path: Path, inner, words) -> None:
    write_zip(tmp_path / "x.zip", {"a/in.zip": b"PK", "a/deep/1.png": b"1"})
    (tmp_path / "x.tar").write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(UserError, match=rf"^{KEY}: {words}"):
        open_tree(tmp_path / inner, key=KEY)


# --- members, read without zipfile -------------------------------------------------------------


def member_of(path: Path, data: bytes, *, method: int, extra: bytes = b"") -> zipfile.ZipInfo:
    """Write a zip of two members; give the place of the second."""
    info = zipfile.ZipInfo("a/é.png")
    info.compress_type, info.extra = method, extra
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first.png", b"x" * 99)
        archive.writestr(info, data)
    reader, places = open_zip(path, below=".")
    reader.close()
    place = places["a/é.png"]
    assert isinstance(place, zipfile.ZipInfo)
    return place


@given(
    method=st.sampled_from([*METHODS, *METHODS[:2]]),
    extra=st.sampled_from([b"", b"", struct.pack("<HH", 0x7777, 300) + bytes(300)]),
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=4),
)
def test_a_member_is_whole_or_what_zipfile_says(tmp_path_factory, method, extra, changes) -> None:
    path = tmp_path_factory.mktemp("zip") / "x.zip"
    place = member_of(path, DATA, method=method, extra=extra)
    data = bytearray(path.read_bytes())
    end = data.index(DIRECTORY)  # the directory stays: it is read but once
    for where, value in changes:
        data[where % end] = value
    path.write_bytes(data)
    try:
        with zipfile.ZipFile(path) as archive:
            by_zipfile: bytes | str = archive.read(place)
    except members.UNREADABLE as error:
        by_zipfile = f"m: {type(error).__name__}"
    # As another process has them.
    reader, same = pickle.loads(pickle.dumps((MemberReader(path), place)))
    with closing(reader):
        try:
            result: bytes | str = reader.read("m", same)
        except UnreadableMemberError as error:
            result = str(error)
        assert result in {DATA, by_zipfile}
        if not changes:
            assert by_zipfile == DATA
            # zipfile reads what is rare.
            assert ("archive" in reader.__dict__) == (method not in METHODS[:2] or bool(extra))


def test_no_more_is_read_or_unpacked_than_the_directory_may_claim(tmp_path: Path) -> None:
    place = member_of(tmp_path / "x.zip", bytes(1 << 20), method=zipfile.ZIP_DEFLATED)
    place.file_size, place.CRC = 1000, zlib.crc32(bytes(1000))
    with closing(MemberReader(tmp_path / "x.zip")) as reader:
        assert reader.read("m", place) == bytes(1000)
        assert "archive" not in reader.__dict__  # zipfile was not asked to cut it
        place.compress_size = 2**40
        with pytest.raises(UnreadableMemberError, match=r"1,099,511,627,776 bytes, expected at"):
            reader.read("m", place)
