"""How many cores a process has: a container's or a job's, not the host's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.machine import describe_machine
from stages.loading.loader import choose_workers
from stages.runtime import cores
from stages.runtime.cores import limit_threads, num_cores, num_threads
from stages.splitting import similarity

ROOT = Path(__file__).parents[2]
HOST = 64
V2, V1 = "0::{}\n", "12:memory:/\n4:cpu,cpuacct:{}\n1:name=systemd:/\n0::/\n"


@pytest.fixture
def in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that puts this process of a host of 64 cores into groups with these files."""
    monkeypatch.setattr(cores, "_GROUP", tmp_path / "own")
    monkeypatch.setattr(cores, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "_set_here", {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(HOST)), raising=False)
    for name in cores._VARIABLES:
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


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}", f"{folder}/cpu.cfs_period_us": f"{period}"}


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (V2.format("/"), {"cpu.max": "400000 100000"}, 4),  # as Docker shows it
        (V2.format("/"), {"cpu.max": "150000 100000"}, 2),
        (V2.format("/"), {"cpu.max": "50000 100000"}, 1),
        (V2.format("/"), {"cpu.max": "9900000 100000"}, HOST),
        (V2.format("/job/step"), {"job/step/cpu.max": "max 100000", "job/cpu.max": "300000 100000"}, 3),
        (V2.format("/job/step"), {"job/step/cpu.max": "200000 100000", "job/cpu.max": "300000 100000"}, 2),
        (V2.format("/../other"), {"cpu.max": "400000 100000"}, 4),
        (V2.format("/job"), {"job/cpu.max": "max 100000", "other/cpu.max": "100000 100000"}, HOST),
        (V1.format("/docker/abc"), v1("cpu", 250_000), 3),  # a path of the host
        (V1.format("/job/step"), v1("cpu/job/step", -1) | v1("cpu/job", 200_000), 2),
        (V1.format("/"), v1("cpu", -1), HOST),
        (V2.format("/"), {}, HOST),
        ("", {}, HOST),  # not Linux
    ],
)  # fmt: skip
def test_reported_cores_of_a_container(in_groups, own, files, expected) -> None:
    in_groups(own, files)
    assert num_cores() == expected


def test_reported_cores_all_who_ask_hear_the_same(in_groups, monkeypatch) -> None:
    in_groups(V2.format("/job/step"), {"job/cpu.max": "300000 100000"})
    assert num_threads("auto") == similarity.num_cores() == describe_machine()["cores"] == 3
    assert choose_workers("auto", device=torch.device("cuda")) == 2
    limit_threads()
    assert {os.environ[name] for name in cores._VARIABLES} == {"3"}
    # The launcher of several shares what it had for itself.
    limit_threads(processes=2)
    assert {os.environ[name] for name in cores._VARIABLES} == {"1"}


def test_who_has_all_cores_or_chose_is_left_alone(in_groups, monkeypatch) -> None:
    in_groups(V2.format("/"), {"cpu.max": "max 100000"})
    limit_threads()
    assert not set(cores._VARIABLES) & set(os.environ)
    in_groups(V2.format("/"), {"cpu.max": "100000 100000"})
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    limit_threads()
    limit_threads(processes=2)
    assert os.environ["OMP_NUM_THREADS"] == "7"


DOOR = """
import sys
from pathlib import Path
from stages.runtime import cores
from stages.runtime.door import run_door

def work():
    import torch
    print(torch.get_num_threads())

cores._affinity = lambda: 64
cores._GROUPS = Path(sys.argv[1])
run_door(work, '', [])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="quotas are read from Linux' cgroups")
def test_reported_cores_torch_in_a_door(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    for name, text in v1("cpu", 100_000).items():
        (tmp_path / name).write_text(text)
    known = {name: text for name, text in os.environ.items() if name not in cores._VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", DOOR, str(tmp_path)], cwd=ROOT, env=known, capture_output=True, text=True
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "a quota gives this process the time of 1 cores, of 64" in done.stderr
