"""Shared memory that is too small is said, before the workers start and when one meets it."""

import sys
from pathlib import Path

import pytest
import torch

from stages.computing.team import Team
from stages.loading import worker_processes
from stages.loading.dataset import FaceDataset
from stages.loading.loader import EvalLoader
from stages.loading.worker_processes import require_shared_memory
from stages.runtime.errors import UserError
from tests.loading.conftest import build_dataset

# Any device but a CPU leaves batches unfinished; this one is everywhere.
CPU, GPU = torch.device("cpu"), torch.device("meta")
posix = pytest.mark.skipif(sys.platform == "win32", reason="no shared memory of a size of its own")


def refuse(_storage: object) -> None:
    raise RuntimeError(
        "unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)"
    )


class FullOnceStarted(FaceDataset):
    """Faces of a worker that finds shared memory full at its third batch."""

    batches = 0

    def __getitem__(self, draws):  # type: ignore[no-untyped-def]
        self.batches += 1
        if self.batches == 3:
            torch.UntypedStorage._share_fd_cpu_ = refuse  # type: ignore[method-assign]
        return super().__getitem__(draws)


@posix
def test_reported_a_batch_that_shared_memory_has_no_room_for_ends_the_run(
    standardized: Path,
) -> None:
    full = build_dataset(standardized, FullOnceStarted)
    loader = EvalLoader(full, batch_size=4, workers=1, device=CPU)
    with pytest.raises(UserError, match=r"hand over a batch: .*No space left.*--shm-size") as said:
        list(loader)
    assert "machine.workers: 0" in str(said.value)
    assert "Traceback" not in str(said.value)


@pytest.mark.parametrize(
    ("workers", "device", "processes", "is_enough"),
    # Bytes for a GPU, float32 for a CPU.
    [(2, GPU, 1, True), (2, CPU, 1, False), (2, GPU, 2, False), (0, CPU, 1, True)],
)
def test_reported_shared_memory_is_asked_for_before_workers_start(
    dataset: FaceDataset, monkeypatch, workers, device, processes, is_enough
) -> None:
    def build(free_bytes: int | None) -> None:
        monkeypatch.setattr(worker_processes, "_free_bytes", lambda: free_bytes)
        team = Team(0, processes, processes)
        EvalLoader(dataset, batch_size=16, workers=workers, device=device, team=team)

    build(None)
    if is_enough:
        build(5 * 16 * 32 * 32 * 3)
        return
    with pytest.raises(UserError, match=r"2 workers need .*--shm-size"):
        build(5 * 16 * 32 * 32 * 3)


def test_what_is_missing_is_said_with_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "_free_bytes", lambda: 67_000_000)
    with pytest.raises(UserError) as said:
        require_shared_memory(38_500_000, workers=2, processes=1)
    assert str(said.value) == (
        "params.yaml: machine.workers: 2 workers need 192 MB of shared memory for batches of "
        "38.5 MB, 67 MB of /dev/shm are free; give the container more (`docker run "
        "--shm-size=1g`, or `--ipc=host`), or set machine.workers: 0, or fewer"
    )


def test_reported_what_a_worker_says_comes_without_its_traceback(
    standardized: Path,
) -> None:
    damaged = build_dataset(standardized, Damaged)
    with pytest.raises(UserError) as said:
        list(EvalLoader(damaged, batch_size=4, workers=1, device=CPU))
    assert str(said.value) == "toy/faces-00000.arrow: damaged at toy/x"


class Damaged(FaceDataset):
    def __getitem__(self, draws):  # type: ignore[no-untyped-def]
        raise UserError("toy/faces-00000.arrow: damaged at toy/x")
