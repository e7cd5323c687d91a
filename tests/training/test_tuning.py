"""Compiling is tried where it can pay and falls back; workers are counted by trying."""

import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.computing.team import ALONE, Team
from stages.runtime.errors import UserError
from stages.training import tuning
from stages.training.step import TrainingPath
from stages.training.tuning import (
    Rates,
    compile_for_good,
    count_workers,
    is_worth_trying,
    needed_workers,
    take_faster,
)
from tests.training.small_loop import (
    CPU,
    VAL,
    Learner,
    ValBatches,
    build_loop,
    final_state,
    fit,
    fly,
    lower_target,
)

GPU = torch.device("cuda")


def rates(step_seconds: float) -> Rates:
    return Rates(12, step_seconds, img_s=64, data_wait_share=0.0, scoring_img_s=100)


@pytest.fixture
def path() -> TrainingPath:
    model = nn.Sequential(nn.Linear(3, 2), nn.GELU())
    return TrainingPath(model, embed=model.forward, head_logits=lower_target)


def run(path: TrainingPath) -> Rates:
    path(torch.ones(2, 3), torch.zeros(2, dtype=torch.int64), margin_rad=0.1)
    return rates(0.5)


def test_a_compiled_run_learns_the_same_and_saves_under_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Up to the compiler proper, which takes a minute of a busy machine.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    fit(build_loop(tmp_path / "eager"))
    loop = build_loop(tmp_path / "compiled")
    progress = loop.resume()
    assert fly(loop, progress, compile=True)["compiled"] is True
    loop.fit(progress)
    eager, compiled = final_state(tmp_path / "eager"), final_state(tmp_path / "compiled")
    for part in ("model", "average"):
        assert eager[part].keys() == compiled[part].keys()
        for name, tensor in eager[part].items():
            torch.testing.assert_close(compiled[part][name], tensor, rtol=1e-3, atol=1e-4)
    assert eager["progress"]["best"]["epoch"] == compiled["progress"]["best"]["epoch"]


def test_without_a_compiler_true_stops_the_run_and_auto_goes_on_without(
    path: TrainingPath, caplog: pytest.LogCaptureFixture
) -> None:
    from torch._inductor import config

    torch.compiler.reset()
    eager = rates(1.0)
    expected = r"machine\.compile: true, and torch\.compile cannot do it here: .*compiler"
    with config.patch({"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}):
        with pytest.raises(UserError, match=expected):
            compile_for_good(path, call=lambda: run(path))
        assert take_faster(path, eager=eager, measure=lambda: run(path)) is eager
    assert not path.is_compiled
    assert "machine.compile: auto: not compiled: " in caplog.text


@pytest.mark.parametrize(("seconds", "is_compiled"), [(0.5, True), (2.0, False)])
def test_the_faster_way_is_taken(
    path: TrainingPath, seconds: float, is_compiled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        faster = take_faster(path, eager=rates(1.0), measure=lambda: rates(seconds))
    assert faster.step_seconds == min(1.0, seconds)
    assert path.is_compiled is is_compiled
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


@pytest.mark.parametrize(
    ("made", "scored", "expected"),
    [(1000, 790, 1), (1000, 810, 2), (3500, 24_000, 9), (1000, 10**6, 15)],
)
def test_the_fewest_workers_keep_up_with_something_to_spare(made, scored, expected) -> None:
    assert needed_workers(made_img_s=made, scored_img_s=scored, most=15) == expected


def test_workers_are_counted_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_MAKING_SECONDS", 0.0)
    monkeypatch.setattr(tuning, "_SCORING_SECONDS", 0.0)
    options = {"most": 5, "device": CPU, "dtype": torch.float32}
    assert 1 <= count_workers(VAL, Learner(), **options) <= 5
    # A process of a team that has no batch tries nothing.
    assert count_workers(ValBatches(), Learner(), **options) == 1
