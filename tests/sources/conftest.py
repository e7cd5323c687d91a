"""Small datasets on disk, each as a folder and as a zip."""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from stages.config import Source
from stages.sources.formats import read_source
from stages.sources.rows import Candidate, Reject
from stages.sources.tree import RawTree, open_tree

Files = Mapping[str, bytes | str]
MakeTree = Callable[[Files], RawTree]
SOURCE: TypeAdapter[Source] = TypeAdapter(Source)
KEYS = {"expw": {"hq_confidence": 60.0}, "ferplus": {"label_rule": "majority"}}


AFFECTNET = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
    "expression,valence,arousal"
)


def npy(value: object) -> bytes:
    """What numpy.save writes."""
    file = io.BytesIO()
    np.save(file, np.array(value))
    return file.getvalue()


def source_of(form: str, **params: object) -> Source:
    return SOURCE.validate_python({"format": form, "path": "x"} | KEYS.get(form, {}) | params)


def rows_of(tree: RawTree, form: str, **params: object) -> list[Candidate | Reject]:
    return list(read_source(tree, name="it", source=source_of(form, **params)))


def rejects_of(rows: list[Candidate | Reject]) -> list[tuple[str, str]]:
    return [(row.row, row.reason) for row in rows if isinstance(row, Reject)]


def faces_of(rows: list[Candidate | Reject]) -> list[tuple[str, str, str | None]]:
    return [(row.id, row.label, row.split) for row in rows if isinstance(row, Candidate)]


def as_bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def write_folder(root: Path, files: Files) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(content))
    return root


def write_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, as_bytes(content))
    return path


@pytest.fixture(params=["folder", "zip"])
def make_tree(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeTree]:
    """Write files as a folder or as a zip and open them; the same test runs on both."""
    with ExitStack() as opened:

        def make(files: Files) -> RawTree:
            if request.param == "folder":
                path = write_folder(tmp_path / "data", files)
            else:
                path = write_zip(tmp_path / "data.zip", files)
            return opened.enter_context(open_tree(path, key="standardize.sources.x.path"))

        yield make
