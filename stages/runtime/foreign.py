"""A file that is not what it should be -> what it is, such as a page that a download left.

In: a file's first bytes, and a zip's list of members. Out: words for a message.
"""

import codecs
import io
import json
import re
import zipfile
from pathlib import Path
from typing import IO

SAFETENSORS, TORCH = "a safetensors file", "a file of torch.save"

_HEAD_BYTES = 512
_SHOWN = 40
# Kinds of files by their first bytes.
_KINDS = {
    rb"version https://git-lfs\.github\.com/spec/": (
        "a git-LFS pointer in place of the file; `git lfs pull` fetches it"
    ),
    rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html|head|\?xml|!--)": (
        "a web page, as a download leaves it that was refused; download the file itself"
    ),
    rb".{257}ustar": "a tar archive; unpack it",
    rb"\x1f\x8b": "a gzip archive; unpack it",
    rb"BZh": "a bzip2 archive; unpack it",
    rb"\xfd7zXZ\0": "an xz archive; unpack it",
    rb"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    rb"Rar!": "a rar archive; unpack it",
    rb"\x89HDF": "an HDF5 file, as Keras and MATLAB write them",
    rb"\x93NUMPY": "a numpy array",
    rb"\x89PNG|\xff\xd8\xff": "a picture",
    rb"%PDF": "a PDF",
    rb"\x80\x02\x8a\x0a": TORCH,
    rb"\x80": "a pickle of Python objects",
    # The format version, then the tag of its producer, its opset or its graph.
    rb"\x08[\x03-\x20][\x12\x3a\x42]": "an ONNX file",
}


def describe_file(path: Path) -> str:
    """Return what a file is and, if known, how to get the right one."""
    with path.open("rb") as file:
        return describe(file)


def describe(file: IO[bytes]) -> str:
    """Return what an open file is, as `describe_file` does."""
    num_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    if not num_bytes:
        return "an empty file"
    if head.startswith(b"PK\x03\x04"):
        return _zip(file, num_bytes)
    if is_safetensors(head):
        return _safetensors(file, num_bytes)
    for start, kind in _KINDS.items():
        if re.match(start, head, re.DOTALL):
            return kind
    try:
        # Not final: the last character may be cut.
        decoded = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        decoded = ""
    first = decoded.strip().partition("\n")[0].strip()
    if first and all(letter.isprintable() or letter in "\r\n\t" for letter in decoded):
        return f"text that begins with {first[:_SHOWN]!r}"
    return f"{num_bytes:,} bytes of no known kind"


def is_safetensors(head: bytes) -> bool:
    """Return whether a file begins as safetensors: with a header's length and opening brace."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def _zip(file: IO[bytes], num_bytes: int) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return f"a zip (or a file of torch.save) that is cut off after {num_bytes:,} bytes"
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript archive, which is a program; save the model's state_dict instead"
    if any(name.endswith("/data.pkl") for name in names):
        return TORCH
    shown = f", such as {names[0][:_SHOWN]!r}" if names else ""
    return f"a zip archive of {len(names)} files{shown}; unpack it"


def _safetensors(file: IO[bytes], num_bytes: int) -> str:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    try:
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        ends = [tensor["data_offsets"][1] for tensor in header.values()]
    except (ValueError, LookupError, TypeError, AttributeError):
        # A file that ends within its header comes here too.
        return f"a safetensors file whose header is cut off or damaged, of {num_bytes:,} bytes"
    if (expected := 8 + length + max(ends, default=0)) > num_bytes:
        return f"a safetensors file that is cut off after {num_bytes:,} of {expected:,} bytes"
    return SAFETENSORS
