"""As many workers as the device keeps busy: counted by trying, without starting one."""

import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from small_faces import small_face, write_faces
from torch import Tensor, nn

from stages import train
from stages.computing.team import ALONE, Team
from stages.config import CLASSES, load_params
from stages.training import learning, staffing
from stages.training.assembly import Faces
from stages.training.pace import for_a_while
from stages.training.staffing import needed, staff
from tests.training.small_run import prepare

CPU = torch.device("cpu")
ROWS = pd.DataFrame(
    {"id": [f"s/{n}" for n in range(20)], "label": [CLASSES[n % 7] for n in range(20)]}
)


class Counting(nn.Module):
    """Scores everything alike, and counts the batches."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return torch.zeros(len(images), len(CLASSES))


@pytest.mark.parametrize(
    ("made", "scored", "expected"),
    [(1000, 100, 1), (1000, 790, 1), (1000, 810, 2), (3500, 24_000, 9), (1000, 10**6, 15)],
)
def test_the_fewest_that_keep_up_with_something_to_spare(made, scored, expected) -> None:
    assert needed(made_img_s=made, scored_img_s=scored, most=15) == expected


def test_workers_are_counted_by_what_one_makes_and_the_device_takes(faces, monkeypatch) -> None:
    monkeypatch.setattr(staffing, "_made_img_s", lambda _loader: 1000.0)
    monkeypatch.setattr(staffing, "_scored_img_s", lambda *_, **__: 3000.0)
    assert _staffed(faces, Counting()) == 4


def test_nobody_is_started_to_count_them(faces, monkeypatch) -> None:
    monkeypatch.setattr(staffing, "_MAKING_SECONDS", 0.0)
    monkeypatch.setattr(staffing, "_SCORING_SECONDS", 0.0)
    before = multiprocessing.active_children()
    model = Counting()
    assert 1 <= _staffed(faces, model) <= 5
    assert model.calls == staffing._WARMUP_BATCHES + 1
    assert multiprocessing.active_children() == before


def test_a_process_of_a_team_that_has_no_batch_tries_nothing(make_faces) -> None:
    model = Counting()
    assert _staffed(make_faces(team=Team(rank=3, size=4, local_size=4)), model) == 1
    assert model.calls == 0


@pytest.mark.parametrize("most", [0, 1])
def test_with_no_choice_nothing_is_tried(faces, most) -> None:
    faces.workers = most
    model = Counting()
    assert _staffed(faces, model) == most
    assert model.calls == 0


def test_a_number_that_is_given_is_taken(project, monkeypatch) -> None:
    counted: list[Faces] = []
    monkeypatch.setattr(learning, "staff", lambda faces, *_, **__: counted.append(faces))
    for workers, expected in (("auto", 1), (0, 1)):
        prepare(project, stageA__epochs=1, machine__workers=workers)
        assert train.main(["stageA", "RN18"]) == 0
        assert len(counted) == expected


def test_for_a_while_is_one_item_at_least() -> None:
    assert list(for_a_while([1, 2, 3], seconds=0)) == [1]
    assert list(for_a_while([1, 2, 3], seconds=60)) == [1, 2, 3]
    assert list(for_a_while([], seconds=60)) == []


def _staffed(faces: Faces, model: nn.Module) -> int:
    staff(faces, ROWS, model=model, device=CPU, dtype=torch.float32)
    return faces.workers


@pytest.fixture
def faces(make_faces: Callable[..., Faces]) -> Faces:
    return make_faces(team=ALONE)


@pytest.fixture
def make_faces(tmp_path: Path) -> Callable[..., Faces]:
    write_faces(tmp_path / "standardized" / "s", map(small_face, ROWS["id"]))
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    return partial(
        Faces,
        tmp_path / "standardized",
        section=params.stageA,
        preprocess=params.preprocess,
        seed=1,
        workers=5,
        device=CPU,
    )
