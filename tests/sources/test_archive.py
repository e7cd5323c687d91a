"""Zips as people download them: broken, hostile, oddly named; and folders inside them."""

import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.runtime.errors import UserError
from stages.sources import members
from stages.sources.members import MemberReader, Packed, UnreadableMemberError
from stages.sources.tree import open_tree
from tests.sources.conftest import write_zip

KEY = "standardize.sources.x.path"
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
DATA = bytes(range(256)) * 9
Patch = Callable[[bytearray], None]


def patched(place: int, value: int, *, local: int | None = None) -> Patch:
    """Set a byte of the directory's first entry, and perhaps of the member's own header."""

    def patch(data: bytearray) -> None:
        data[data.index(b"PK\x01\x02") + place] = value
        if local is not None:
            data[local] = value

    return patch


def replaced(old: bytes, new: bytes) -> Patch:
    def patch(data: bytearray) -> None:
        assert old in data
        data[:] = data.replace(old, new)

    return patch


def zip_of(path: Path, names: list[str], patch: Patch, *, method: int = 0) -> Path:
    """Write a zip of members with these names as they are, and damage its bytes."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            archive.writestr(info, b"the picture " * 30)
    data = bytearray(path.read_bytes())
    patch(data)
    path.write_bytes(data)
    return path


def unchanged(data: bytearray) -> None:
    """Damage nothing."""


def overlap(data: bytearray) -> None:
    """List the one member ten times."""
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry = bytes(data[start:end])
    twins = b"".join(entry.replace(b"a.png", f"{n}.png".encode()) for n in range(9))
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 10, 10, len(entry + twins))
    data[:] = data[:start] + entry + twins + tail


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "patch", "words"),
    [
        *(
            ([name], unchanged, "x.zip has a member .* outside")
            for name in ("../evil.png", "/evil.png", "a/../../evil.png", "c:/evil.png")
        ),
        (["a.png", "a.png"], unchanged, "x.zip has two members 'a.png'"),
        (["a.png"], patched(8, 1), "has an encrypted member, 'a.png'; unpack"),
        (["a.png"], overlap, "is broken, or a zip bomb: its members take 3,600 bytes of"),
    ],
)
def test_a_zip_that_cannot_be_trusted_is_refused(tmp_path: Path, names, patch, words) -> None:
    with pytest.raises(UserError, match=rf"{KEY}: .*{words}"):
        open_tree(zip_of(tmp_path / "x.zip", names, patch), key=KEY)


def spoil(data: bytearray) -> None:
    data[40:45] = bytes(byte ^ 0xFF for byte in data[40:45])


ABSURD = replaced((360).to_bytes(4, "little"), (2**31).to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("patch", "method", "words"),
    [
        (replaced(b"the picture", b"THE picture"), zipfile.ZIP_STORED, "BadZipFile"),
        (patched(10, 97, local=8), zipfile.ZIP_STORED, "NotImplementedError"),
        (ABSURD, zipfile.ZIP_DEFLATED, "2,147,483,648 bytes, expected at most"),
        *((spoil, method, "") for method in METHODS[1:]),
    ],
)
def test_a_broken_member_is_unreadable_and_leaves_the_hash_defined(
    tmp_path: Path, patch, method, words
) -> None:
    with open_tree(zip_of(tmp_path / "x.zip", ["a.png"], patch, method=method), key=KEY) as tree:
        with pytest.raises(UnreadableMemberError, match=f"a.png: {words}"):
            tree.read("a.png")
        assert len(tree.content_sha256()) == 64


def without_utf8_flag(data: bytearray) -> None:
    for place in (7, data.index(b"PK\x01\x02") + 9):
        assert data[place] == 0x08
        data[place] = 0


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "patch", "expected"),
    [
        (["folder\\a.png"], unchanged, "folder/a.png"),
        (["cafe\u0301.png"], unchanged, "caf\u00e9.png"),
        (["caf\u00e9.png"], without_utf8_flag, "caf\u00e9.png"),
        (["x.png"], replaced(b"x.png", b"\x82.png"), "\u00e9.png"),  # of old Windows
        (["./train//sad/1.png"], unchanged, "train/sad/1.png"),
        (["__MACOSX/a.png", "__MACOSX/a.png", "a.png"], unchanged, "a.png"),
    ],
)
def test_odd_names_are_read(tmp_path: Path, names, patch, expected) -> None:
    with open_tree(zip_of(tmp_path / "x.zip", names, patch), key=KEY) as tree:
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
        ("x.zip/A", r"x.zip holds no folder 'A'"),
        ("x.zip/a/in.zip", r"x.zip holds a file 'a/in.zip', expected a folder \(unpack it"),
        ("x.zip/a/in.zip/b", r"x.zip holds no folder 'a/in.zip/b'"),
        ("x.tar/a", "x.tar is neither a folder nor a whole zip"),
        ("cut.zip", "cut.zip is neither a folder nor a whole zip"),
        ("none.zip/a", "expected a folder, a .zip or a folder inside"),
        ("none", "expected a folder, a .zip or a folder inside"),
    ],
)
def test_reported_a_folder_that_a_zip_has_not_is_named(tmp_path: Path, inner, words) -> None:
    write_zip(tmp_path / "x.zip", {"a/in.zip": b"PK", "a/deep/1.png": b"1"})
    for name in ("x.tar", "cut.zip"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(UserError, match=rf"^params.yaml: {KEY}: {words}"):
        open_tree(tmp_path / inner, key=KEY)


# --- members, read without zipfile -------------------------------------------------------------


def write(path: Path, data: bytes, *, method: int, extra: bytes = b"") -> Packed:
    info = zipfile.ZipInfo("a/é.png")
    info.compress_type, info.extra = method, extra
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first.png", b"x" * 99)
        archive.writestr(info, data)
    sizes = info.compress_size, info.file_size
    return Packed(info.filename, info.header_offset, *sizes, info.CRC, info.compress_type)


def read_by_zipfile(path: Path, name: str) -> bytes | str:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except members.UNREADABLE as error:
        return type(error).__name__


def read_by_reader(path: Path, place: Packed) -> bytes | str:
    reader = MemberReader(path)
    try:
        return reader.read("m", place)
    except UnreadableMemberError as error:
        return str(error).removeprefix("m: ")
    finally:
        reader.close()


LONG_EXTRA = struct.pack("<HH", 0x7777, 300) + bytes(300)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("extra", [b"", LONG_EXTRA])
@pytest.mark.parametrize("data", [b"", b"x", DATA, bytes(100_000)])
def test_every_packing_is_read_here_and_by_a_pickled_copy(tmp_path: Path, method, extra, data):
    """zipfile reads what is rare."""
    place = write(tmp_path / "x.zip", data, method=method, extra=extra)
    reader = MemberReader(tmp_path / "x.zip")
    assert reader.read("m", place) == data
    is_rare = method not in METHODS[:2] or (method == zipfile.ZIP_DEFLATED and not data)
    assert ("archive" in reader.__dict__) == (is_rare or bool(extra and data))
    copy, same = pickle.loads(pickle.dumps((reader, place)))
    reader.close()
    assert copy.read("m", same) == data
    copy.close()


@example(method=zipfile.ZIP_STORED, changes=[(145, 0)])  # no longer says that its name is UTF-8
@given(
    method=st.sampled_from(METHODS[:2]),
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=4),
)
def test_of_a_damaged_zip_it_says_what_zipfile_says(tmp_path_factory, method, changes) -> None:
    path = tmp_path_factory.mktemp("zip") / "x.zip"
    place = write(path, DATA[:500], method=method)
    data = bytearray(path.read_bytes())
    end = data.index(b"PK\x01\x02")  # the directory stays: it is read but once
    for where, value in changes:
        data[where % end] = value
    path.write_bytes(data)
    assert read_by_reader(path, place) == read_by_zipfile(path, place.name)


def test_no_more_is_read_or_unpacked_than_the_directory_may_claim(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    place = write(path, bytes(1 << 20), method=zipfile.ZIP_DEFLATED)
    claimed = place._replace(num_bytes=1000, crc=zlib.crc32(bytes(1000)))
    assert read_by_reader(path, claimed) == bytes(1000)
    message = read_by_reader(path, place._replace(num_packed=2**40))
    assert "1,099,511,627,776 bytes, expected at most" in str(message)
