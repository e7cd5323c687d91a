"""Small datasets in memory and on disk, there each as a folder and as a zip."""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter
from raw_sources import as_bytes
from raw_sources import write as write_folder

from stages.config import Source
from stages.sources.formats import read_source
from stages.sources.members import MemberReader
from stages.sources.rows import Candidate, Reject
from stages.sources.tree import RawTree, open_tree

Files = Mapping[str, bytes | str]
SOURCE: TypeAdapter[Source] = TypeAdapter(Source)
KEYS = {"expw": {"hq_confidence": 60.0}, "ferplus": {"label_rule": "majority"}}
AFFECTNET = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
    "expression,valence,arousal"
)
# A row of FERPlus: its box, and votes.
WHOLE, HAPPY = '"(0, 0, 48, 48)"', "1,8,0,0,0,0,0,0,1,0"


def npy(value: object) -> bytes:
    """What numpy.save writes."""
    file = io.BytesIO()
    np.save(file, np.array(value))
    return file.getvalue()


def source_of(form: str, **params: object) -> Source:
    return SOURCE.validate_python({"format": form, "path": "x"} | KEYS.get(form, {}) | params)


def rows_of(tree: RawTree, form: str, **params: object) -> list[Candidate | Reject]:
    return list(read_source(tree, name="it", source=source_of(form, **params)))


def became(rows: list[Candidate | Reject]) -> list[tuple[str, str]]:
    """What became of each row: the reason why it is left out, or `face`."""
    return [(row.row, getattr(row, "reason", "face")) for row in rows]


def ids_of(rows: list[Candidate | Reject]) -> list[str]:
    return [row.id for row in rows if isinstance(row, Candidate)]


def write_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, as_bytes(content))
    return path


def in_memory(files: Files) -> RawTree:
    """The files as a tree; some file systems cannot hold names that differ in letter case alone."""

    class Memory(RawTree):
        def read(self, member: str) -> bytes:
            return as_bytes(files[member])

        def open(self, member: str) -> io.BytesIO:
            return io.BytesIO(self.read(member))

    return Memory(dict.fromkeys(files, ""), reader=MemberReader(None))


@pytest.fixture(params=["folder", "zip"])
def make_tree(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[Files], RawTree]]:
    """Write files as a folder or as a zip and open them; the same test runs on both."""
    with ExitStack() as opened:

        def make(files: Files) -> RawTree:
            if request.param == "folder":
                path = write_folder(tmp_path / "data", files)
            else:
                path = write_zip(tmp_path / "data.zip", files)
            return opened.enter_context(open_tree(path, key="standardize.sources.x.path"))

        yield make
