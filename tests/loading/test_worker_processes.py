"""Workers outlive no trainer, and what ends one is said; shared memory that is too small too."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from small_project import ROOT, small_params, write_params

from stages import train
from stages.computing.team import Team
from stages.loading import worker_processes
from stages.loading.dataset import Batch, FaceDataset
from stages.loading.loader import EvalLoader
from stages.loading.worker_processes import require_shared_memory
from stages.runtime.errors import UserError
from stages.runtime.signals import STOP_SIGNALS
from tests.loading.conftest import assert_same, build_dataset, in_rows
from tests.training.small_run import published

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither signal")
Project = Callable[..., Path]
Begun = tuple[EvalLoader, Iterator[Batch], multiprocessing.process.BaseProcess]


@pytest.fixture
def begun(dataset: FaceDataset) -> Begun:
    """A loader with one worker, its batches, and that worker."""
    loader = in_rows(dataset, workers=1)
    before = set(multiprocessing.active_children())
    batches = iter(loader)
    (worker,) = set(multiprocessing.active_children()) - before
    return loader, batches, worker


@posix
def test_workers_take_no_stop_signal_from_their_first_moment_on(
    dataset: FaceDataset, begun: Begun
) -> None:
    (_, batches, worker), taken = begun, []
    for _ in range(2):
        for number in STOP_SIGNALS:
            os.kill(worker.pid or 0, number)
        taken.append(next(batches))
    assert_same([*taken, *batches], list(in_rows(dataset)))
    assert worker.is_alive()


@posix
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SIGKILL", r"machine\.workers: .*{pid}.* exited.* go on from the last checkpoint"),
        pytest.param(
            "SIGBUS",
            r"bus error.*--shm-size",
            id="test_reported_a_worker_killed_by_a_bus_error_names_shared_memory",
        ),
    ],
)
def test_the_death_of_a_worker_is_noticed_at_a_batch_and_nowhere_else(
    begun: Begun, name: str, expected: str
) -> None:
    _, batches, worker = begun
    next(batches)
    os.kill(worker.pid or 0, signal.Signals[name])
    # Unlike `join` this leaves the dead worker for torch to find.
    os.waitid(os.P_PID, worker.pid or 0, os.WEXITED | os.WNOWAIT)
    with pytest.raises(UserError, match=expected.format(pid=worker.pid)):
        list(batches)


@posix
def test_a_batch_cut_off_is_the_death_of_a_worker_though_torch_takes_it_for_alive(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, batches, worker = begun
    next(batches)
    # A batch lies in the pipe, its memory still with the worker: without one torch would wait.
    assert loader._loader._iterator._worker_result_queue._reader.poll(60)
    worker.kill()
    worker.join()
    with monkeypatch.context() as patch, pytest.raises(UserError, match="exited while it sent a"):
        patch.setattr(type(worker), "is_alive", lambda _self: True)
        list(batches)


class FullOnceStarted(FaceDataset):
    """Faces of a worker that finds shared memory full at its third batch."""

    batches = 0

    def __getitem__(self, draws):  # type: ignore[no-untyped-def]
        self.batches += 1
        if self.batches == 3:
            torch.UntypedStorage._share_fd_cpu_ = refuse  # type: ignore[method-assign]
        return super().__getitem__(draws)


def refuse(_storage: object) -> None:
    raise RuntimeError(
        "unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)"
    )


@posix
def test_reported_a_batch_that_shared_memory_has_no_room_for_ends_the_run(
    standardized: Path,
) -> None:
    full = build_dataset(standardized, FullOnceStarted)
    with pytest.raises(UserError, match=r"hand over a batch: .*No space left.*--shm-size") as said:
        list(in_rows(full, workers=1))
    assert "machine.workers: 0" in str(said.value)
    assert "Traceback" not in str(said.value)


@posix
@pytest.mark.parametrize(
    ("workers", "device", "processes", "is_enough"),
    # Bytes for a GPU, and so for any device but a CPU; float32 for a CPU.
    [(2, "meta", 1, True), (2, "cpu", 1, False), (2, "meta", 2, False), (0, "cpu", 1, True)],
)
def test_reported_shared_memory_is_asked_for_before_workers_start(
    dataset: FaceDataset, monkeypatch, workers, device, processes, is_enough
) -> None:
    free = SimpleNamespace(free=5 * 16 * 32 * 32 * 3)
    monkeypatch.setattr(worker_processes.shutil, "disk_usage", lambda _folder: free)
    with nullcontext() if is_enough else pytest.raises(UserError, match=r"2 workers need .*--shm"):
        team = Team(0, processes, processes)
        in_rows(dataset, workers=workers, device=torch.device(device), team=team)


@posix
def test_shared_memory_that_is_too_small_is_said_with_its_numbers(monkeypatch) -> None:
    free = SimpleNamespace(free=67_000_000)
    monkeypatch.setattr(worker_processes.shutil, "disk_usage", lambda _folder: free)
    with pytest.raises(UserError) as said:
        require_shared_memory(38_500_000, workers=2, processes=1)
    assert str(said.value) == (
        "params.yaml: machine.workers: 2 workers need 192 MB of shared memory for batches of "
        "38.5 MB, 67 MB of /dev/shm are free; give the container more (`docker run "
        "--shm-size=1g`, or `--ipc=host`), or set machine.workers: 0, or fewer"
    )


@pytest.fixture(scope="module")
def undisturbed(manifested: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run publishes that no signal has met."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(manifested, folder, dirs_exist_ok=True)
    write_params(folder, small_params(stageA__epochs=6, machine__workers=0))
    with chdir(folder):
        assert train.main(["stageA", "RN18"]) == 0
    return published(folder)


@posix
@pytest.mark.parametrize(
    "name", ["SIGTERM", pytest.param("SIGUSR1", id="reported_warning_of_a_job_scheduler")]
)
def test_a_signal_to_the_whole_group_saves_the_state_and_no_bit_depends_on_it(
    prepared: Project,
    undisturbed: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    number, folder = signal.Signals[name], prepared(stageA__epochs=6, machine__workers=2)
    with _trainer(folder) as trainer:
        _wait_for_a_checkpoint(folder)
        os.killpg(trainer.pid, number)
        assert trainer.wait(120) == 128 + number, _said(folder)
    assert f"interrupted by signal {number:d}; state saved" in _said(folder)
    assert "Traceback" not in _said(folder)
    prepared(stageA__epochs=6, machine__workers=0)
    with caplog.at_level("INFO"):
        assert train.main(["stageA", "RN18"]) == 0
    assert "resuming at epoch" in caplog.text
    assert published(folder) == undisturbed


@posix
@pytest.mark.parametrize("moment", ["workers start", "workers work"])
def test_no_worker_outlives_a_trainer_that_was_killed(prepared: Project, moment: str) -> None:
    folder = prepared(stageA__epochs=6, machine__workers=2)
    with _trainer(folder) as trainer:
        workers = _workers(trainer, folder)
        if moment == "workers work":
            _wait_for_a_checkpoint(folder)
        trainer.kill()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


@posix
def test_a_program_that_fails_with_a_loader_in_hand_ends(standardized: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from tests.loading.conftest import build_dataset, in_rows\n"
        "if __name__ == '__main__':\n"
        "    batches = iter(in_rows(build_dataset(Path('.')), workers=1))\n"
        "    next(batches)\n"
        "    raise SystemError('a bug')\n"
    )
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [ROOT, ROOT / "tests"]))}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=standardized, env=paths, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.endswith("SystemError: a bug\n")


@contextmanager
def _trainer(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The real door in a process group of its own; what it says goes to a file."""
    command = [sys.executable, "-m", "stages.train", "stageA", "RN18"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (folder / "said.txt").open("wb") as file:
        trainer = subprocess.Popen(
            command, cwd=folder, env=environment, stderr=file, start_new_session=True
        )
    try:
        yield trainer
    finally:
        trainer.kill()
        trainer.wait()


def _said(folder: Path) -> str:
    return (folder / "said.txt").read_text("utf-8")


def _workers(trainer: subprocess.Popen[bytes], folder: Path) -> list[psutil.Process]:
    """Two worker processes of the trainer as soon as they exist."""
    process = psutil.Process(trainer.pid)
    _wait(lambda: sum(map(_is_worker, process.children())) >= 2, folder)
    return list(filter(_is_worker, process.children()))


def _is_worker(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return "spawn_main" in " ".join(process.cmdline())
    return False


def _wait_for_a_checkpoint(folder: Path) -> None:
    _wait(lambda: any((folder / ".work").glob("stageA/RN18/*/checkpoint_last.pt")), folder)


def _wait(is_done: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not is_done():
        assert time.monotonic() < deadline, _said(folder)
        time.sleep(0.01)
