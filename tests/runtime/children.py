"""Python code in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def python(code: str, *arguments: object) -> tuple[int, str, str]:
    """The exit code of some code, and what it printed and logged."""
    with _start(code, *arguments) as process:
        output, log = process.communicate()
    return process.returncode, output, log


@contextmanager
def running(code: str, *arguments: object) -> Iterator[tuple[int, str]]:
    """The pid and the first line of a process that lives to the end of the block and is killed."""
    with _start(code, *arguments) as process:
        assert process.stdout is not None
        yield process.pid, process.stdout.readline()
        assert process.poll() is None
        process.kill()
