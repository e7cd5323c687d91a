"""No signal ends workers, and what does is said; shared memory that is too small too.

That they end with the trainer is held by tests/runtime/test_workers.py: they are its workers.
"""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_project import ROOT

from stages import train
from stages.computing.team import Team
from stages.loading import worker_processes
from stages.loading.dataset import Batch, FaceDataset
from stages.loading.loader import EvalLoader
from stages.runtime.errors import UserError
from stages.runtime.signals import STOP_SIGNALS
from tests.loading.conftest import assert_same, build_dataset, in_rows
from tests.training.small_run import published

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither signal")
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
    ("workers", "device", "processes", "needed"),
    # Bytes for a GPU, and so for any device but a CPU; float32 for a CPU.
    [(2, "meta", 1, ""), (2, "cpu", 1, "48"), (2, "meta", 2, "24"), (0, "cpu", 1, "")],
)
def test_reported_shared_memory_is_asked_for_before_workers_start(
    make_dataset, monkeypatch, workers, device, processes, needed
) -> None:
    free = SimpleNamespace(free=5 * 16 * 224 * 224 * 3)
    monkeypatch.setattr(worker_processes.shutil, "disk_usage", lambda _folder: free)
    message = (
        rf"workers: 2 workers need {needed} MB of shared memory for batches of [29].\d MB, 12 MB of "
        "/dev/shm are free; give the container more .`docker run --shm-size=1g`, or `--ipc=host`"
    )
    with pytest.raises(UserError, match=message) if needed else nullcontext():
        team, faces = Team(0, processes, processes), make_dataset(image_size=224)
        in_rows(faces, workers=workers, device=torch.device(device), team=team)


@posix
def test_reported_a_signal_to_the_whole_group_saves_the_state_and_no_bit_depends_on_it(
    prepared: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepared(stageA__epochs=6, machine__workers=0)
    assert train.main(["stageA", "RN18"]) == 0
    undisturbed, said = published(folder), folder / "said.txt"
    command = [sys.executable, "-m", "stages.train", "stageA", "RN18"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    caplog.set_level("INFO")
    # The second is the warning of a job scheduler.
    for number in (signal.SIGTERM, signal.SIGUSR1):
        shutil.rmtree(folder / ".work/stageA")
        prepared(stageA__epochs=6, machine__workers=2)
        with said.open("wb") as file:
            trainer = subprocess.Popen(
                command, cwd=folder, env=environment, stderr=file, start_new_session=True
            )
        try:
            while not any(folder.glob(".work/stageA/RN18/*/checkpoint_last.pt")):
                assert trainer.poll() is None
                time.sleep(0.01)
            os.killpg(trainer.pid, number)
            assert trainer.wait(120) == 128 + number
        finally:
            trainer.kill()
            trainer.wait()
        assert f"interrupted by signal {number:d}; state saved" in said.read_text("utf-8")
        assert "Traceback" not in said.read_text("utf-8")
        prepared(stageA__epochs=6, machine__workers=0)
        caplog.clear()
        assert train.main(["stageA", "RN18"]) == 0
        assert "resuming at epoch" in caplog.text
        assert published(folder) == undisturbed


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
