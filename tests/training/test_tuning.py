"""Compiling is tried where it can pay and falls back; workers are counted by trying."""

import logging
import multiprocessing
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from shipped import shipped
from small_faces import small_face, write_faces
from torch import Tensor, nn

from stages import train
from stages.computing.team import ALONE, Team
from stages.config import CLASSES, Preprocess
from stages.faces.store import FaceStore
from stages.loading.loader import EvalLoader, scoring_batches
from stages.runtime.errors import UserError
from stages.training import session, tuning
from stages.training.step import CompilableEmbed
from stages.training.tuning import (
    Rates,
    compile_for_good,
    count_workers,
    is_worth_trying,
    needed_workers,
    take_faster,
)
from tests.training.small_loop import CPU, build_loop, final_state, fit
from tests.training.test_preflight import fly

GPU = torch.device("cuda")


def rates(step_seconds: float) -> Rates:
    return Rates(12, step_seconds, img_s=64, data_wait_share=0.0, scoring_img_s=100)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile up to its compiler proper, which takes a minute of a busy machine."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


@pytest.fixture
def no_compiler() -> Iterator[None]:
    from torch._inductor import config

    torch.compiler.reset()
    with config.patch({"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}):
        yield


def embed() -> CompilableEmbed:
    torch.manual_seed(0)
    return CompilableEmbed(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.GELU()).forward)


@pytest.mark.usefixtures("traced")
def test_a_compiled_run_learns_the_same_and_saves_under_the_same_names(tmp_path: Path) -> None:
    fit(build_loop(tmp_path / "eager"))
    loop = build_loop(tmp_path / "compiled")
    progress = loop.resume()
    assert fly(loop, progress, compiling=True)["compiled"] is True
    loop.fit(progress)
    eager, compiled = final_state(tmp_path / "eager"), final_state(tmp_path / "compiled")
    for part in ("model", "average"):
        assert eager[part].keys() == compiled[part].keys()
        for name, tensor in eager[part].items():
            torch.testing.assert_close(compiled[part][name], tensor, rtol=1e-3, atol=1e-4)
    assert eager["progress"]["best"]["epoch"] == compiled["progress"]["best"]["epoch"]


@pytest.mark.usefixtures("no_compiler")
def test_true_without_a_compiler_stops_the_run_and_says_so() -> None:
    images = torch.ones(2, 3)
    taken = embed()
    with pytest.raises(
        UserError, match=r"machine\.compile: true, and torch\.compile cannot do it here: .*compiler"
    ):
        compile_for_good(taken, call=lambda: taken(images))


@pytest.mark.usefixtures("no_compiler")
def test_auto_without_a_compiler_goes_on_without_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    taken, eager = embed(), rates(1.0)

    def measure() -> Rates:
        taken(torch.ones(2, 3))
        return rates(0.5)

    assert take_faster(taken, eager=eager, measure=measure) is eager
    assert not taken.is_compiled
    assert "machine.compile: auto: not compiled: " in caplog.text


@pytest.mark.parametrize(("seconds", "is_compiled"), [(0.5, True), (2.0, False)])
def test_the_faster_way_is_taken(
    seconds: float, is_compiled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    taken, eager = embed(), rates(1.0)
    with caplog.at_level(logging.INFO):
        found = take_faster(taken, eager=eager, measure=lambda: rates(seconds))
    assert found.step_seconds == min(1.0, seconds)
    assert taken.is_compiled is is_compiled
    assert f"{1e3 * seconds:.1f} ms a step compiled, 1000.0 ms not" in caplog.text


def test_auto_tries_it_on_one_gpu_with_hours_to_go_only() -> None:
    worth = partial(is_worth_trying, "auto", seconds_left=7200.0, device=GPU, team=ALONE)
    assert worth()
    assert not worth(device=CPU)
    assert not worth(seconds_left=60.0)
    assert not worth(team=Team(0, 2, 2))
    assert not is_worth_trying(False, seconds_left=7200.0, device=GPU, team=ALONE)
    torch.use_deterministic_algorithms(True)
    try:
        assert not worth()
    finally:
        torch.use_deterministic_algorithms(False)


class Counting(nn.Module):
    """Scores everything alike, and counts the batches."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return torch.zeros(len(images), len(CLASSES))


@pytest.mark.parametrize(
    ("made", "scored", "expected"),
    [(1000, 790, 1), (1000, 810, 2), (3500, 24_000, 9), (1000, 10**6, 15)],
)
def test_the_fewest_workers_keep_up_with_something_to_spare(made, scored, expected) -> None:
    assert needed_workers(made_img_s=made, scored_img_s=scored, most=15) == expected


def test_no_worker_is_started_to_count_them(val: EvalLoader, monkeypatch) -> None:
    monkeypatch.setattr(tuning, "_MAKING_SECONDS", 0.0)
    monkeypatch.setattr(tuning, "_SCORING_SECONDS", 0.0)
    before, model = multiprocessing.active_children(), Counting()
    assert 1 <= count_workers(val, model, most=5, device=CPU, dtype=torch.float32) <= 5
    assert model.calls == tuning._WARMUP_BATCHES + 1
    assert multiprocessing.active_children() == before


def test_a_process_of_a_team_that_has_no_batch_tries_nothing() -> None:
    assert count_workers([], Counting(), most=5, device=CPU, dtype=torch.float32) == 1


@pytest.mark.parametrize(
    ("wanted", "most", "counted"), [("auto", 5, 1), ("auto", 1, 0), (0, 0, 0), (1, 1, 0)]
)
def test_workers_are_counted_only_where_there_is_a_choice(
    rare: Callable[..., Path], monkeypatch, wanted: object, most: int, counted: int
) -> None:
    calls = []
    monkeypatch.setattr(session, "choose_workers", lambda *_, **__: most)
    monkeypatch.setattr(session, "count_workers", lambda *_, **options: calls.append(options) or 0)
    monkeypatch.setattr(session, "training_batches", stop)
    rare(machine__workers=wanted)
    with pytest.raises(KeyboardInterrupt):
        train.work("stageA", "RN18", fresh=False)
    assert [options["most"] for options in calls] == [most] * counted


def stop(*_args: object, **_options: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def val(tmp_path: Path) -> EvalLoader:
    rows = pd.DataFrame(
        {"id": [f"s/{n}" for n in range(20)], "label": [CLASSES[n % 7] for n in range(20)]}
    )
    write_faces(tmp_path / "standardized" / "s", map(small_face, rows["id"]))
    return scoring_batches(
        FaceStore(tmp_path / "standardized"),
        rows,
        image_size=32,
        preprocess=shipped(Preprocess),
        workers=0,
        device=CPU,
    )
