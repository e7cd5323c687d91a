"""How many cores a process has, a container's and not the host's; and what an environment names."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

import pytest
import torch

from benchmarks.machine import describe_machine
from stages.loading.loader import choose_workers
from stages.runtime import machine
from stages.runtime.machine import commit, driver, environment, limit_threads, num_cores
from stages.splitting import similarity
from tests.runtime.children import python

HOST = 64
V2, V1 = "0::{}\n", "12:memory:/\n4:cpu,cpuacct:{}\n1:name=systemd:/\n0::/\n"


@pytest.fixture
def in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that puts this process of a host of 64 cores into groups with these files."""
    monkeypatch.setattr(machine, "_GROUP", tmp_path / "own")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "_set_here", {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(HOST)), raising=False)
    for name in machine._VARIABLES:
        # Set first, so that what the test sets goes with it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def put(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

    return put


def v1(folder: str, quota: int) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}", f"{folder}/cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (V2.format("/"), {"cpu.max": "400000 100000"}, 4),  # as Docker shows it
        (V2.format("/"), {"cpu.max": "150000 100000"}, 2),
        (V2.format("/"), {"cpu.max": "50000 100000"}, 1),
        (V2.format("/job/step"), {"job/step/cpu.max": "max 100000", "job/cpu.max": "300000 100000"}, 3),
        (V2.format("/job/step"), {"job/step/cpu.max": "200000 100000", "job/cpu.max": "300000 100000"}, 2),
        (V2.format("/../other"), {"cpu.max": "400000 100000"}, 4),
        (V1.format("/docker/abc"), v1("cpu", 250_000), 3),  # a path of the host
        (V1.format("/job/step"), v1("cpu/job/step", -1) | v1("cpu/job", 200_000), 2),
        (V1.format("/"), v1("cpu", -1), HOST),
        ("", {}, HOST),  # not Linux
    ],
)  # fmt: skip
def test_reported_cores_of_a_container(in_groups, own, files, expected) -> None:
    in_groups(own, files)
    assert num_cores() == expected


def test_reported_cores_all_who_ask_hear_the_same(in_groups, monkeypatch) -> None:
    in_groups(V2.format("/"), {"cpu.max": "max 100000"})
    limit_threads()
    assert not set(machine._VARIABLES) & set(os.environ)
    in_groups(V2.format("/job/step"), {"job/cpu.max": "300000 100000"})
    assert similarity.num_cores() == describe_machine()["cores"] == 3
    assert choose_workers("auto", device=torch.device("cuda")) == 2
    limit_threads()
    assert {os.environ[name] for name in machine._VARIABLES} == {"3"}
    # The launcher of several shares what it had for itself, and leaves what the user set.
    monkeypatch.setenv("OPENCV_FOR_THREADS_NUM", "7")
    limit_threads(processes=2)
    assert [os.environ[name] for name in machine._VARIABLES] == ["1", "7", "1"]


DOOR = """
import sys
from pathlib import Path
from stages.runtime import machine
from stages.runtime.door import run_door
machine._affinity = lambda: 64
machine._GROUPS = Path(sys.argv[1])
def work(): import torch; print(torch.get_num_threads())
run_door(work, '', [])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="quotas are read from Linux' cgroups")
def test_reported_cores_torch_in_a_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in (v1("cpu", 100_000) | {"cpu.max": "100000 100000"}).items():
        (tmp_path / name).write_text(text)
    for name in machine._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    code, output, log = python(DOOR, tmp_path)
    assert (code, output) == (0, "1\n")
    assert "a quota gives this process the time of 1 cores, of 64" in log


# --- versions ------------------------------------------------------------------------------------


def test_reported_the_environment_names_every_package_and_what_computes() -> None:
    recorded = environment()
    installed = {each.metadata["Name"].lower().replace("_", "-") for each in distributions()}
    assert list(recorded["packages"]) == sorted(installed)
    assert torch.__version__.startswith(recorded["packages"]["torch"])
    computing = (torch.version.cuda, torch.backends.cudnn.version())
    assert (recorded["cuda"], recorded["cudnn"]) == computing
    assert "driver" in recorded


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that writes a program into the only folder of programs."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(name: str, *lines: str) -> None:
        (tmp_path / name).write_text("\n".join(["#!/bin/sh", *lines]), encoding="utf-8")
        (tmp_path / name).chmod(0o755)

    return write


def test_the_driver_is_what_its_tool_says(program) -> None:
    assert driver() is None
    program("nvidia-smi", "echo 570.86.15", "echo 570.86.15")
    assert driver() == "570.86.15"
    program("nvidia-smi", "echo NVIDIA-SMI has failed", "exit 9")
    assert driver() is None


def test_reported_git_that_refuses_is_warned_about_in_its_own_words(program, caplog) -> None:
    program(
        "git", "echo >&2 \"fatal: dubious ownership in '/data'\"", "echo >&2 '\ttry x'", "exit 128"
    )
    assert commit() is None
    words = "the commit of this code is not recorded: fatal: dubious ownership in '/data' try x"
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("WARNING", words)]


def test_reported_no_git_and_no_repository_are_warned_about(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() is None
    assert "is not recorded: fatal: not a git repository" in caplog.text
    Path("a").write_text("1")
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "a"], [*identity, "commit", "-qm", "a"]):
        subprocess.run(["git", *command], check=True)
    name = commit() or ""
    assert len(name) == 40
    Path("a").write_text("2")
    assert commit() == f"{name}-dirty"
    monkeypatch.setenv("PATH", "")
    assert commit() is None
    assert "is not recorded: git does not run" in caplog.text
