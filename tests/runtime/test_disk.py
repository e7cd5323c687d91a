"""A disk that is full: exit code 2, words, nothing good gone and nothing half-written left."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stages import standardize
from stages.runtime import files as runtime_files
from stages.runtime.door import run_door
from stages.runtime.errors import UserError, disk_full_error
from stages.runtime.files import published_folder, work_folder, write_bytes, write_with

ROOT = Path(__file__).parents[2]
# As a full disk does, a limit fails a write in its midst.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from importlib import import_module
sys.exit(import_module(sys.argv[2]).main([]))
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="knows no such limit")


def limited(door: str, *, num_bytes: int) -> subprocess.CompletedProcess[str]:
    """Run a door that cannot write files longer than so many bytes."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(num_bytes), door],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    names = ("standardized", "manifests", "metrics", "plots", ".work")
    found = {path for name in names for path in (folder / name).rglob("*") if path.is_file()}
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@posix
@pytest.mark.parametrize("num_bytes", [0, 100, 5_000])
def test_reported_disk_full_while_standardizing(
    project: Callable[..., Path], num_bytes: int
) -> None:
    folder = project()
    assert standardize.main([]) == 0
    before = files(folder)
    # Another crop: the source is read anew, beside the copy that is kept.
    project(standardize__crop_margin=0.2)
    done = limited("stages.standardize", num_bytes=num_bytes)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: .work/standardize/" in done.stderr
    assert ": cannot be written: File too large; " in done.stderr
    assert files(folder) == before


@posix
def test_reported_disk_full_while_the_manifest_is_published(project: Callable[..., Path]) -> None:
    folder = project()
    assert standardize.main([]) == 0
    before = files(folder)
    done = limited("stages.manifest", num_bytes=5_000)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "error: manifests/classification_manifest.csv: cannot be written: " in done.stderr
    assert files(folder) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_reported_disk_full_names_what_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch, number: int
) -> None:
    def fail(_path: Path) -> None:
        raise OSError(number, os.strerror(number))

    def work() -> None:
        with published_folder(tmp_path / "models"):
            pass
        with published_folder(tmp_path / "models") as folder:
            write_with(folder / "a.onnx", fail)

    assert run_door(work, "", []) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {tmp_path.as_posix()}/models/a.onnx: cannot be written: ")
    assert os.strerror(number) in told
    assert "What stood there before still does; make room" in told
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


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


def test_other_errors_keep_their_traceback(tmp_path: Path) -> None:
    assert disk_full_error(RuntimeError()) is None

    def work() -> None:
        write_bytes(tmp_path, b"")

    with pytest.raises((IsADirectoryError, PermissionError)):
        run_door(work, "", [])


@posix
def test_reported_work_as_a_link_is_used_and_a_broken_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    (tmp_path / ".work").symlink_to(tmp_path / "scratch")
    write_bytes(work_folder("stageA") / "state", b"")
    assert (tmp_path / "scratch" / "stageA" / "state").exists()
    assert (tmp_path / ".work").is_symlink()
    shutil.rmtree(tmp_path / "scratch")
    with pytest.raises(UserError, match=r"\.work: links to .*scratch, which is gone"):
        work_folder("stageA")


def test_a_folder_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(runtime_files, "sync", lambda path: done.append(path.name))
    monkeypatch.setattr(runtime_files, "replace", lambda *_: done.append("in place"))
    with published_folder(tmp_path / "teacher") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "weights").write_bytes(b"w")
    assert done == ["weights", "in place"]
