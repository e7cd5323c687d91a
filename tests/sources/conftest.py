"""Small datasets on disk, each as a folder and as a zip."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from stages.sources.tree import RawTree, open_tree

Files = Mapping[str, bytes | str]
MakeTree = Callable[[Files], RawTree]


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
