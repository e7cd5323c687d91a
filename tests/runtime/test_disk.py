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


def fail_limited(door: str, *, num_bytes: int, folder: Path) -> str:
    """Run a door that cannot write longer files; return its message, with every file as before."""

    def read_all() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = read_all()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(num_bytes), door],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert read_all() == before
    return done.stderr


@posix
@pytest.mark.parametrize("num_bytes", [0, 5_000])
def test_reported_disk_full_while_standardizing(
    project: Callable[..., Path], num_bytes: int
) -> None:
    project()
    assert standardize.main([]) == 0
    # Another crop: the source is read anew, beside the copy that is kept.
    folder = project(standardize__crop_margin=0.2)
    message = fail_limited("stages.standardize", num_bytes=num_bytes, folder=folder)
    assert "error: .work/standardize/" in message
    assert ": cannot be written: File too large; " in message


@posix
def test_reported_disk_full_while_the_manifest_is_published(project: Callable[..., Path]) -> None:
    folder = project()
    assert standardize.main([]) == 0
    message = fail_limited("stages.manifest", num_bytes=5_000, folder=folder)
    assert "error: manifests/classification_manifest.csv: cannot be written: " in message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
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
    with pytest.raises((IsADirectoryError, PermissionError)):
        run_door(lambda: write_bytes(tmp_path, b""), "", [])


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
