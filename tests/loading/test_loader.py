import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from stages import config, manifest, standardize, train
from stages.computing.team import Team
from stages.config import CLASSES
from stages.faces.shards import read_faces
from stages.faces.store import FaceStore
from stages.loading.dataset import Batch, FaceDataset
from stages.loading.loader import EvalLoader, TrainLoader, choose_workers
from stages.loading.sampler import EpochSampler
from stages.runtime.errors import UserError
from stages.runtime.files import read_json
from stages.runtime.signals import STOP_SIGNALS
from stages.training.progress import CLOCK_KEYS

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither signal")
Project = Callable[..., Path]
CPU = torch.device("cpu")


def test_workers_make_the_same_batches_over_epochs_and_resume(dataset: FaceDataset) -> None:
    sampler = EpochSampler(dataset.targets, batch_size=16, min_per_class=1, seed=5)
    alone = TrainLoader(dataset, sampler, workers=0, device=CPU)
    spawned = TrainLoader(dataset, sampler, workers=2, device=CPU)

    for epoch, start_batch in ((0, 0), (1, 0), (1, 3)):
        expected = list(alone.epoch(epoch, start_batch=start_batch))
        _assert_same(list(spawned.epoch(epoch, start_batch=start_batch)), expected)

    abandoned = spawned.epoch(2)
    next(iter(abandoned))
    _assert_same(list(spawned.epoch(3)), list(alone.epoch(3)))
    _assert_same(list(EvalLoader(dataset, batch_size=16, workers=1, device=CPU)),
                 list(EvalLoader(dataset, batch_size=16, workers=0, device=CPU)))  # fmt: skip


def test_resume_in_mid_epoch_gives_the_rest_and_decodes_nothing_else(dataset, monkeypatch) -> None:
    sampler = EpochSampler(dataset.targets, batch_size=16, seed=5)
    loader = TrainLoader(dataset, sampler, workers=0, device=CPU)
    whole = list(loader.epoch(2))
    decoded: list[int] = []
    original = FaceDataset._decoded
    monkeypatch.setattr(
        FaceDataset,
        "_decoded",
        lambda self, draws: decoded.extend(d.row for d in draws) or original(self, draws),
    )

    rest = list(loader.epoch(2, start_batch=3))

    _assert_same(rest, whole[3:])
    assert decoded == [row for batch in whole[3:] for row in batch["index"].tolist()]
    assert [len(batch["target"]) for batch in whole] == list(loader.sizes)


def test_epochs_differ(dataset: FaceDataset) -> None:
    sampler = EpochSampler(dataset.targets, batch_size=16, seed=5)
    loader = TrainLoader(dataset, sampler, workers=0, device=CPU)
    one, two = (torch.cat([b["index"] for b in loader.epoch(epoch)]) for epoch in (0, 1))
    assert not torch.equal(one, two)
    assert torch.equal(one.sort().values, two.sort().values)


def test_batches_leave_the_trainers_random_numbers_alone(dataset: FaceDataset) -> None:
    sampler = EpochSampler(dataset.targets, batch_size=16, seed=5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    next(iter(TrainLoader(dataset, sampler, workers=0, device=CPU).epoch(0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_gives_every_row_once_in_order(dataset: FaceDataset) -> None:
    loader = EvalLoader(dataset, batch_size=32, workers=0, device=CPU)
    batches = list(loader)
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(len(dataset)))
    assert len(loader) == len(batches)


def test_what_processes_make_of_their_rows_comes_together_in_order(dataset: FaceDataset) -> None:
    loaders = [
        EvalLoader(dataset, batch_size=32, workers=0, device=CPU, team=Team(rank, 3))
        for rank in range(3)
    ]
    parts = [np.concatenate([batch["index"].numpy() for batch in loader]) for loader in loaders]
    assert loaders[1].in_order(parts).tolist() == list(range(len(dataset)))
    with pytest.raises(AssertionError):
        loaders[1].in_order([parts[0], parts[1], parts[2][:-1]])


@pytest.mark.parametrize(
    ("wanted", "device", "cores", "expected"),
    [
        ("auto", "cpu", 2, 0),
        ("auto", "cpu", 64, 0),
        ("auto", "cuda", 1, 1),
        ("auto", "cuda", 8, 7),
        ("auto", "cuda", 128, 16),
        (3, "cpu", 2, 3),
        (0, "cuda", 8, 0),
    ],
)
def test_workers_chosen(wanted, device, cores, expected, monkeypatch) -> None:
    monkeypatch.setattr("stages.loading.loader.num_cores", lambda: cores)
    assert choose_workers(wanted, device=torch.device(device)) == expected


def test_processes_of_one_machine_share_its_cores(monkeypatch) -> None:
    monkeypatch.setattr("stages.loading.loader.num_cores", lambda: 16)
    team = Team(rank=5, size=8, local_size=4)
    assert choose_workers("auto", device=torch.device("cuda"), team=team) == 3


@posix
def test_workers_take_no_stop_signal_from_their_first_moment_on(dataset: FaceDataset) -> None:
    alone = EvalLoader(dataset, batch_size=16, workers=0, device=CPU)
    spawned = EvalLoader(dataset, batch_size=16, workers=1, device=CPU)
    batches = iter(spawned)
    (worker,) = multiprocessing.active_children()
    for number in STOP_SIGNALS:
        os.kill(worker.pid or 0, number)
    found = [next(batches)]
    for number in STOP_SIGNALS:
        os.kill(worker.pid or 0, number)
    _assert_same([*found, *batches], list(alone))
    assert worker.is_alive()


@posix
def test_the_death_of_a_worker_is_noticed_at_a_batch_and_nowhere_else(
    dataset: FaceDataset,
) -> None:
    spawned = EvalLoader(dataset, batch_size=8, workers=1, device=CPU)
    batches = iter(spawned)
    (worker,) = multiprocessing.active_children()
    next(batches)
    worker.kill()
    # Unlike `join` this leaves the dead worker for torch to find.
    os.waitid(os.P_PID, worker.pid or 0, os.WEXITED | os.WNOWAIT)
    with pytest.raises(UserError, match=rf"machine\.workers: .*{worker.pid}.* exited"):
        list(batches)


@posix
def test_a_batch_cut_off_is_the_death_of_a_worker_though_torch_takes_it_for_alive(
    dataset: FaceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned = EvalLoader(dataset, batch_size=8, workers=1, device=CPU)
    batches = iter(spawned)
    (worker,) = multiprocessing.active_children()
    next(batches)
    # A batch lies in the pipe, its memory still with the worker: without one torch would wait.
    assert spawned._loader._iterator._worker_result_queue._reader.poll(60)
    worker.kill()
    worker.join()
    with monkeypatch.context() as patch, pytest.raises(UserError, match="exited while it sent a"):
        patch.setattr(type(worker), "is_alive", lambda _self: True)
        list(batches)


@posix
@pytest.mark.parametrize(
    "name", ["SIGTERM", pytest.param("SIGUSR1", id="reported_warning_of_a_job_scheduler")]
)
def test_a_signal_to_the_whole_group_saves_the_state_and_no_bit_depends_on_it(
    project: Project, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    number = signal.Signals[name]
    folder = _prepare(project, workers=0)
    assert train.main(["stageA", "RN18"]) == 0
    undisturbed = _published(folder)
    (folder / ".work" / "stageA").rename(folder / "undisturbed")
    _prepare(project, workers=2)
    with _trainer(folder) as trainer:
        _wait(lambda: _checkpoint(folder) is not None, folder)
        os.killpg(trainer.pid, number)
        assert trainer.wait(120) == 128 + number, _said(folder)
    assert f"interrupted by signal {number:d}; state saved" in _said(folder)
    assert "Traceback" not in _said(folder)
    _prepare(project, workers=0)
    with caplog.at_level("INFO"):
        assert train.main(["stageA", "RN18"]) == 0
    assert "resuming at epoch" in caplog.text
    assert _published(folder) == undisturbed


@posix
@pytest.mark.parametrize("moment", ["workers start", "workers work"])
def test_no_worker_outlives_a_trainer_that_was_killed(project: Project, moment: str) -> None:
    folder = _prepare(project, workers=2)
    with _trainer(folder) as trainer:
        workers = _workers(trainer, folder)
        if moment == "workers work":
            _wait(lambda: _checkpoint(folder) is not None, folder)
        trainer.kill()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


@posix
def test_a_worker_that_dies_ends_the_trainer_with_its_last_checkpoint(project: Project) -> None:
    folder = _prepare(project, workers=2)
    with _trainer(folder) as trainer:
        workers = _workers(trainer, folder)
        _wait(lambda: _checkpoint(folder) is not None, folder)
        workers[0].kill()
        assert trainer.wait(60) == 2, _said(folder)
    said = _said(folder)
    assert re.search(r"machine\.workers: DataLoader worker .*exited", said)
    assert "run again to go on from the last checkpoint" in said
    assert "Traceback" not in said
    assert torch.load(_checkpoint_file(folder), weights_only=True)["progress"]["epoch"] >= 1


@posix
def test_a_program_that_fails_with_a_loader_in_hand_ends(standardized: Path) -> None:
    code = (
        "from pathlib import Path; import test_loader, torch\n"
        "from stages.loading.loader import EvalLoader\n"
        "if __name__ == '__main__':\n"
        "    dataset = test_loader.make_dataset(Path('.'))\n"
        "    batches = iter(EvalLoader(dataset, batch_size=16, workers=1, device=torch.device('cpu')))\n"
        "    next(batches)\n"
        "    raise SystemError('a bug')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=standardized, capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [ROOT, Path(__file__).parent]))},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.endswith("SystemError: a bug\n")


def _prepare(project: Project, *, workers: int) -> Path:
    folder = project(machine__workers=workers, stageA__epochs=6)
    if not (folder / "manifests").exists():
        assert standardize.main([]) == 0
        assert manifest.main([]) == 0
    return folder


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


def _checkpoint_file(folder: Path) -> Path:
    return next((folder / ".work" / "stageA" / "RN18").glob("*/checkpoint_last.pt"))


def _checkpoint(folder: Path) -> int | None:
    """When the last checkpoint was written."""
    runs = folder / ".work" / "stageA" / "RN18"
    written = [path.stat().st_mtime_ns for path in runs.glob("*/checkpoint_last.pt")]
    return max(written, default=None)


def _wait(is_done: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not is_done():
        assert time.monotonic() < deadline, _said(folder)
        time.sleep(0.01)


def _published(folder: Path) -> dict[str, object]:
    """What the run has made, without what the clock decides."""
    models = folder / "models" / "stageA" / "RN18"
    history = [
        {key: value for key, value in record.items() if key not in CLOCK_KEYS}
        for record in read_json(models / "history.json")
    ]
    logits = pd.read_parquet(models / "logits.parquet").to_dict("list")
    return {"weights": (models / "best.safetensors").read_bytes()} | {
        "history": history, "logits": logits, "card": read_json(models / "teacher.json")
    }  # fmt: skip


def _assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def dataset(standardized: Path) -> FaceDataset:
    return make_dataset(standardized)


def make_dataset(standardized: Path) -> FaceDataset:
    faces = read_faces(standardized, ["id", "label"])
    store = FaceStore(standardized)
    return FaceDataset(
        store,
        positions=store.locate(faces["id"].tolist()),
        targets=faces["label"].map(CLASSES.index).to_numpy(np.int64),
        image_size=32,
        preprocess=config.Preprocess(),
        augmentation=config.Augmentation(),
        seed=1,
    )
