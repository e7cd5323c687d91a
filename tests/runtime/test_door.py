"""Command line and exit codes of a door; no text from strangers controls a terminal."""

import io
import logging
from pathlib import Path

import pytest

from stages.runtime import door
from stages.runtime.door import printable, run_door
from stages.runtime.errors import UserError
from tests.runtime.children import python

LIBGL = "libGL.so.1: cannot open shared object file: No such file or directory"


def fail_with(error: BaseException) -> int:
    def work() -> None:
        raise error

    return run_door(work, "", [])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ImportError(LIBGL, name="cv2"), f"opencv-python (cv2) is installed and does not load: {LIBGL}; opencv-python wants libraries of a display: on Debian and Ubuntu `apt-get install libgl1 libglib2.0-0`, or `pip uninstall opencv-python` and then `pip install opencv-python-headless`"),
        (ModuleNotFoundError("No module named 'nope'", name="nope.part"), "the Python package nope is not installed; `pip install -r requirements.txt -c constraints.txt`"),
        (ImportError("libgomp.so.1: cannot open shared object file", name="sklearn.x"), "sklearn needs the system library libgomp.so.1, which is missing"),
    ],
)  # fmt: skip
def test_reported_what_is_not_installed_is_one_line(
    error: ImportError, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail_with(error) == 2
    assert capsys.readouterr().err == f"error: {expected}\n"


@pytest.mark.parametrize(
    ("message", "name"),
    [("cannot import name 'x' from 'torch'", "torch"), ("?", "stages.nope"), ("?", "json.nope"), ("?", None)],
)  # fmt: skip
def test_an_import_that_is_a_bug_keeps_its_traceback(message: str, name: str | None) -> None:
    kind = ImportError if name == "torch" else ModuleNotFoundError
    with pytest.raises(kind):
        fail_with(kind(message, name=name))


def test_reported_without_libgl_a_door_ends_with_one_line(tmp_path: Path) -> None:
    """As in slim images, where opencv-python is installed and its libraries are not."""
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text(f"raise ImportError({LIBGL!r}, name='cv2')")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from stages.standardize import main"
    exit_code, _, log = python(f"{code}; raise SystemExit(main([]))", tmp_path)
    assert exit_code == 2
    assert log.startswith("error: opencv-python (cv2) is installed and does not load: lib")
    assert log.count("\n") == 1


def test_reported_names_control_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "=1+1/\x1b[2J\x9b31m\rdone\u202egpj.exe\x00"
    shown = "=1+1/\\x1b[2J\\x9b31m\\rdone\\u202egpj.exe\\x00"
    assert printable("Übung 1,\n\tzwei “x” 顔") == "Übung 1,\n\tzwei “x” 顔"
    assert fail_with(UserError(f"{name}: no")) == 2
    assert capsys.readouterr().err == f"error: {shown}: no\n"
    stream, root = io.StringIO(), logging.Logger("root")
    monkeypatch.setattr(door.logging, "root", root)
    monkeypatch.setattr(door.sys, "stderr", stream)
    assert run_door(lambda: root.warning("%s", name), "", []) == 0
    assert stream.getvalue().rstrip("\n").endswith(f"WARNING {shown}")
