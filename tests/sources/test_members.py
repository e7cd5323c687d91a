import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.sources import members
from stages.sources.members import MemberReader, Packed, UnreadableMemberError

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
PLAIN = METHODS[:2]
DATA = bytes(range(256)) * 9


def packed(entry: zipfile.ZipInfo) -> Packed:
    return Packed(
        entry.filename, entry.header_offset, entry.compress_size, entry.file_size, entry.CRC,
        entry.compress_type,
    )  # fmt: skip


def write(path: Path, data: bytes, *, method: int, extra: bytes = b"") -> Packed:
    info = zipfile.ZipInfo("a/é.png")
    info.compress_type, info.extra = method, extra
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first.png", b"x" * 99)
        archive.writestr(info, data)
        return packed(archive.infolist()[1])


def what_zipfile_says(path: Path, name: str) -> bytes | str:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except members.UNREADABLE as error:
        return type(error).__name__


def what_the_reader_says(path: Path, place: Packed) -> bytes | str:
    reader = MemberReader(path)
    try:
        return reader.read("m", place)
    except UnreadableMemberError as error:
        return str(error).removeprefix("m: ")
    finally:
        reader.close()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [b"", b"x", DATA, bytes(100_000)])
def test_every_packing_is_read_and_the_common_ones_without_zipfile(
    tmp_path: Path, method: int, data: bytes
):
    place = write(tmp_path / "x.zip", data, method=method)
    reader = MemberReader(tmp_path / "x.zip")
    assert reader.read("m", place) == data
    is_left_to_zipfile = method not in PLAIN or (method == zipfile.ZIP_DEFLATED and not data)
    assert ("archive" in reader.__dict__) == is_left_to_zipfile
    reader.close()


def test_a_long_extra_field_leaves_it_to_zipfile(tmp_path: Path):
    extra = struct.pack("<HH", 0x7777, 300) + bytes(300)
    place = write(tmp_path / "x.zip", DATA, method=zipfile.ZIP_STORED, extra=extra)
    reader = MemberReader(tmp_path / "x.zip")
    assert reader.read("m", place) == DATA
    assert "archive" in reader.__dict__
    reader.close()


def test_a_member_that_claims_absurdly_many_packed_bytes_is_not_read(tmp_path: Path):
    place = write(tmp_path / "x.zip", DATA, method=zipfile.ZIP_DEFLATED)
    absurd = place._replace(num_packed=2**40)
    said = what_the_reader_says(tmp_path / "x.zip", absurd)
    assert "1,099,511,627,776 bytes, expected at most" in str(said)


@example(method=zipfile.ZIP_STORED, changes=[(145, 0)])  # no longer says that its name is UTF-8
@given(
    method=st.sampled_from(PLAIN),
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=4),
)
def test_of_a_damaged_zip_it_says_what_zipfile_says(tmp_path_factory, method, changes):
    path = tmp_path_factory.mktemp("zip") / "x.zip"
    place = write(path, DATA[:500], method=method)
    data = bytearray(path.read_bytes())
    end = data.index(b"PK\x01\x02")  # the directory stays: it is read but once
    for where, value in changes:
        data[where % end] = value
    path.write_bytes(data)
    assert what_the_reader_says(path, place) == what_zipfile_says(path, place.name)


def test_no_more_is_unpacked_than_the_directory_claims(tmp_path: Path):
    place = write(tmp_path / "x.zip", bytes(1 << 20), method=zipfile.ZIP_DEFLATED)
    claimed = place._replace(num_bytes=1000, crc=zlib.crc32(bytes(1000)))
    assert what_the_reader_says(tmp_path / "x.zip", claimed) == bytes(1000)


def test_a_pickled_reader_opens_the_zip_for_itself(tmp_path: Path):
    place = write(tmp_path / "x.zip", DATA, method=zipfile.ZIP_BZIP2)
    reader = MemberReader(tmp_path / "x.zip")
    assert reader.read("m", place) == DATA
    copy, same = pickle.loads(pickle.dumps((reader, place)))
    reader.close()
    assert copy.read("m", same) == DATA
    copy.close()
