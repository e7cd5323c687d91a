from pathlib import Path

import numpy as np
import pytest
import torch

from stages import config
from stages.loading.dataset import Batch, FaceDataset
from stages.loading.loader import EvalLoader, TrainLoader, choose_workers
from stages.loading.sampler import EpochSampler
from stages.loading.shards import FaceStore
from stages.records.faces import read_faces
from stages.sources.labels import CLASSES

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
        FaceDataset, "_decoded", lambda self, row: decoded.append(row) or original(self, row)
    )

    rest = list(loader.epoch(2, start_batch=3))

    _assert_same(rest, whole[3:])
    assert decoded == [row for batch in whole[3:] for row in batch["index"].tolist()]
    assert loader.num_batches == len(whole)


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
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert choose_workers(wanted, device=torch.device(device)) == expected


def _assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def dataset(standardized: Path) -> FaceDataset:
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
