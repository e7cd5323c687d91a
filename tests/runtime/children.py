"""Python code in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, env=environment, text=True, **pipes)


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
