"""Batches are the same whoever makes them, whenever an epoch is begun; nothing else changes."""

import logging
import threading
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from shipped import shipped

from stages.computing.team import Team
from stages.config import CLASSES, Preprocess, Stage
from stages.faces.store import FaceStore
from stages.loading.dataset import Batch, FaceDataset
from stages.loading.loader import (
    TrainLoader,
    choose_workers,
    prefetched,
    training_batches,
    training_targets,
)
from stages.loading.sampler import BatchOrder, EpochSampler
from stages.records.schema import SHARE_COLUMNS
from stages.runtime import workers
from stages.runtime.errors import UserError
from tests.loading.conftest import CPU, assert_same, in_rows


def in_epochs(dataset: FaceDataset, *, workers: int = 0) -> TrainLoader:
    sampler = EpochSampler(dataset.targets, batch_size=16, min_per_class=1, seed=5)
    return TrainLoader(dataset, BatchOrder(sampler), workers=workers, device=CPU)


def test_workers_make_the_same_batches_over_epochs_and_resume(dataset: FaceDataset) -> None:
    alone, spawned = in_epochs(dataset), in_epochs(dataset, workers=2)

    for epoch, start_batch in ((0, 0), (1, 0), (1, 3)):
        expected = list(alone.epoch(epoch, start_batch=start_batch))
        assert_same(list(spawned.epoch(epoch, start_batch=start_batch)), expected)

    abandoned = spawned.epoch(2)
    next(iter(abandoned))
    assert_same(list(spawned.epoch(3)), list(alone.epoch(3)))
    assert_same(list(in_rows(dataset, workers=1)), list(in_rows(dataset)))


def test_resume_in_mid_epoch_gives_the_rest_and_decodes_nothing_else(dataset, monkeypatch) -> None:
    loader = in_epochs(dataset)
    whole = list(loader.epoch(2))
    assert [len(batch["target"]) for batch in whole] == loader.sizes
    decoded, faces = [], FaceDataset.faces
    monkeypatch.setattr(
        FaceDataset, "faces", lambda self, draws: decoded.extend(draws) or faces(self, draws)
    )
    assert_same(list(loader.epoch(2, start_batch=3)), whole[3:])
    assert [draw.row for draw in decoded] == torch.cat([b["index"] for b in whole[3:]]).tolist()


def test_what_processes_make_of_their_rows_comes_together_in_order(dataset: FaceDataset) -> None:
    loaders = [in_rows(dataset, team=Team(rank, 3)) for rank in range(3)]
    parts = [np.concatenate([batch["index"].numpy() for batch in loader]) for loader in loaders]
    assert loaders[1].in_order(parts).tolist() == list(range(len(dataset)))


def test_scoring_says_how_far_it_is(dataset: FaceDataset, monkeypatch, caplog) -> None:
    monkeypatch.setattr(workers, "LINE_EVERY_SECONDS", 0)
    with caplog.at_level(logging.INFO):
        n = len(list(in_rows(dataset)))
    assert caplog.messages[-1] == f"scoring: {n} of {n} batches"


@pytest.mark.parametrize(
    ("wanted", "device", "cores", "local_size", "expected"),
    [
        ("auto", "cpu", 64, 1, 0),
        ("auto", "cuda", 1, 1, 1),
        ("auto", "cuda", 128, 1, 16),
        ("auto", "cuda", 16, 4, 3),
        (3, "cpu", 2, 1, 3),
    ],
)
def test_workers_chosen(wanted, device, cores, local_size, expected, monkeypatch) -> None:
    monkeypatch.setattr("stages.loading.loader.num_cores", lambda: cores)
    team = Team(rank=0, size=2 * local_size, local_size=local_size)
    assert choose_workers(wanted, device=torch.device(device), team=team) == expected


def test_the_next_batch_is_made_while_one_is_used_and_an_error_comes_where_it_was_due() -> None:
    made = [threading.Event() for _ in range(3)]

    def batches() -> Iterator[Batch]:
        for number, event in enumerate(made):
            event.set()
            yield {"index": torch.tensor([number])}
        raise UserError("damaged")

    before = threading.active_count()
    coming = prefetched(batches())
    next(coming)
    assert made[1].wait(timeout=30)
    assert not made[2].is_set()
    assert threading.active_count() == before + 1
    coming.close()
    assert threading.active_count() == before, "no thread is left behind"

    coming = prefetched(batches())
    assert [int(next(coming)["index"]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match="damaged"):
        next(coming)


VOTED = pd.DataFrame({"id": ["alpha/000", "alpha/001", "beta/000"], "label": CLASSES[:3]})
VOTED[list(SHARE_COLUMNS)] = [[0.6, 0.4, *[0.0] * 5], [0.0, 1.0, *[0.0] * 5], [np.nan] * 7]


def test_votes_are_shares_where_a_row_has_some_and_its_label_elsewhere(standardized) -> None:
    expected = [VOTED.loc[0, list(SHARE_COLUMNS)].tolist(), *np.eye(7)[1:3].tolist()]
    np.testing.assert_allclose(training_targets(VOTED, "votes"), expected, rtol=1e-6)
    assert training_targets(VOTED, "majority").tolist() == [0, 1, 2]
    loader = training_batches(
        FaceStore(standardized),
        VOTED,
        stage_params=shipped(Stage, targets="votes", batch_size=2),
        preprocess=shipped(Preprocess),
        seed=1,
        workers=0,
        device=CPU,
    )
    for batch in map(loader.finish, loader.epoch(0)):
        wanted = np.array(expected)[batch["index"].numpy()]
        np.testing.assert_allclose(batch["target"], wanted, rtol=1e-6)
    assert loader.row_counts == pytest.approx([0.6, 1.4, 1, 0, 0, 0, 0])
    assert loader.shown_counts == pytest.approx(loader.row_counts)
