"""A disk that is full: exit code 2, words, nothing good gone and nothing half-written left."""

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stages import standardize
from stages.runtime.door import run_door
from stages.runtime.errors import UserError
from stages.runtime.files import published_folder, work_folder, write_bytes, write_with
from tests.runtime.children import python

# As a full disk does, a limit fails a write in its midst.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from importlib import import_module
sys.exit(import_module(sys.argv[2]).main([]))
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="knows no such limit")


@posix
@pytest.mark.parametrize(
    ("door", "num_bytes", "expected"),
    [
        ("stages.standardize", 0, "error: .work/standardize/"),
        ("stages.standardize", 5_000, ": cannot be written: File too large; "),
        pytest.param(
            "stages.manifest", 5_000, "error: manifests/classification_manifest.csv: cannot be written: ",
            id="test_reported_disk_full_while_the_manifest_is_published",
        ),
    ],
)  # fmt: skip
def test_reported_disk_full_while_standardizing(
    project: Callable[..., Path], door: str, num_bytes: int, expected: str
) -> None:
    project()
    assert standardize.main([]) == 0
    # Another crop: the source is read anew, beside the copy that is kept.
    folder = project(standardize__crop_margin=0.2)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, _, log = python(LIMITED, num_bytes, door)
    assert (code, "Traceback" in log) == (2, False), log
    assert expected in log
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_reported_disk_full_names_what_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def fail(_path: Path) -> None:
        raise OSError(number, os.strerror(number))

    def work() -> None:
        with published_folder(tmp_path / "models"):
            pass
        with published_folder(tmp_path / "models") as folder:
            write_with(folder / "a.onnx", fail)

    assert run_door(work, "", []) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path.as_posix()}/models/a.onnx: cannot be written: ")
    assert os.strerror(number) in message
    assert "What stood there before still does; make room" in message
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    with pytest.raises((IsADirectoryError, PermissionError)):  # any other error is a bug
        run_door(lambda: write_bytes(tmp_path, b""), "", [])


def test_reported_disk_full_behind_another_error_and_a_log_that_is_full_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full:
        def write(self, _text: str) -> None:
            raise OSError(errno.ENOSPC, "full")

    def work() -> None:
        try:
            raise OSError(errno.ENOSPC, "full")
        finally:
            raise RuntimeError("of a library")

    monkeypatch.setattr(sys, "stderr", Full())
    assert run_door(work, "", []) == 2


@posix
def test_reported_work_as_a_link_is_used_and_a_broken_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    (tmp_path / ".work").symlink_to(tmp_path / "scratch")
    write_bytes(work_folder("stageA") / "state", b"")
    assert (tmp_path / "scratch" / "stageA" / "state").exists()
    with pytest.raises(UserError, match=r"\.work/stageA/state: cannot be made: "):
        work_folder("stageA", "state")
    shutil.rmtree(tmp_path / "scratch")
    with pytest.raises(UserError, match=r"\.work: links to .*scratch, which is gone"):
        work_folder("stageA")
