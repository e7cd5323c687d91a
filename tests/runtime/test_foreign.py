"""A file that is not what it should be is called what it is."""

import io
import json
import zipfile
from pathlib import Path

import pytest

from stages.runtime.foreign import describe, describe_file

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46830571\n"


def packed(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 100)
    return data.getvalue()


def tensors(num_bytes: int, *, of: int) -> bytes:
    header = json.dumps({"a": {"dtype": "U8", "shape": [of], "data_offsets": [0, of]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(num_bytes)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "an empty file"),
        (LFS, "a git-LFS pointer in place of the file; `git lfs pull` fetches it"),
        (b"\n <!DOCTYPE html><title>Sign in", "a web page"),
        (b"<?xml version='1.0'?><Error>AccessDenied", "a web page"),
        (packed("weights/a.bin", "b"), "a zip archive of 2 files, such as 'weights/a.bin'; unpack it"),
        (packed("m/data.pkl", "m/data/0"), "a file of torch.save"),
        (packed("m/data.pkl", "m/constants.pkl"), "a TorchScript archive"),
        (packed("m/data.pkl")[:-30], "a zip (or a file of torch.save) that is cut off after 188 bytes"),
        (tensors(10, of=10), "a safetensors file"),
        (tensors(9, of=10), "a safetensors file that is cut off after 79 of 80 bytes"),
        (tensors(0, of=10)[:30], "a safetensors file whose header is cut off or damaged"),
        (bytes(257) + b"ustar\x0000", "a tar archive; unpack it"),
        (b"\x1f\x8b\x08abc", "a gzip archive"),
        (b"\x80\x04\x95\x0b", "a pickle of Python objects"),
        (b"\x08\x0a\x12\x07pytorch\x3a\xff\xff", "an ONNX file"),
        ("größe: 3\n".encode() * 100, "text that begins with 'größe: 3'"),
        (b"\xff\xfe\x00a", "4 bytes of no known kind"),
        (b"\x1b[31mred", "8 bytes of no known kind"),
    ],
)  # fmt: skip
def test_a_file_is_called_what_it_is(tmp_path: Path, data: bytes, expected: str) -> None:
    (tmp_path / "file").write_bytes(data)
    assert describe_file(tmp_path / "file").startswith(expected)


def test_no_first_bytes_stop_it() -> None:
    for first in range(256):
        for rest in (b"", b"\x00" * 600, b"K\x03\x04" + b"\xff" * 600, b"\xff" * 7 + b"{"):
            assert describe(io.BytesIO(bytes([first]) + rest))
