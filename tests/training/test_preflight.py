"""The preflight: a few real steps that leave no trace, and a forecast that can refuse a run."""

import copy
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.config import load_params
from stages.runtime.errors import InterruptedRunError, UserError
from stages.runtime.signals import StopRequest
from stages.training import preflight as preflights
from stages.training.loop import Loop
from stages.training.losses import NonFiniteError
from stages.training.preflight import preflight, quota, settle_forecast
from stages.training.progress import Progress
from stages.training.step import Batch, TrainingStep
from stages.training.tuning import Left, Rates
from tests.training.small_loop import (
    EPOCHS,
    SyntheticBatches,
    ValBatches,
    assert_same,
    build_loop,
    final_state,
    fit,
)

STAGE = load_params(Path(__file__).parents[2] / "params.yaml").stageA
# An evaluation of 27 rows in 5 batches.
VAL = ValBatches(SyntheticBatches(StopRequest()).epoch(9, start_batch=0))


def fly(loop: Loop, progress: Progress, **options: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "val": VAL,
        "num_val": 27,
        "num_scored": 54,
        "stage_params": STAGE,
        "key": "stageA",
        "models": Path("models"),
        "max_hours": None,
        "compiling": "auto",
    }
    return preflight(loop, progress, **defaults | options)


def copied(loop: Loop) -> Any:
    return copy.deepcopy(loop.step.state())


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_with_a_preflight_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int, share: float
) -> None:
    monkeypatch.setattr(preflights, "MAX_SHARE", share)
    fit(build_loop(tmp_path / "without", accumulate=accumulate))
    loop = build_loop(tmp_path / "with", accumulate=accumulate)
    progress = loop.resume()
    progress.preflight = fly(loop, progress)
    loop.fit(progress)
    assert_same(final_state(tmp_path / "without"), final_state(tmp_path / "with"))


def test_a_resumed_run_with_a_preflight_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflights, "MAX_SHARE", 1.0)
    fit(build_loop(tmp_path / "without"))
    with pytest.raises(InterruptedRunError):
        fit(build_loop(tmp_path / "with", stop_after=7))
    loop = build_loop(tmp_path / "with")
    progress = loop.resume()
    assert progress.batch > 0
    fly(loop, progress)
    loop.fit(progress)
    assert_same(final_state(tmp_path / "without"), final_state(tmp_path / "with"))


def test_nothing_that_the_preflight_changed_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflights, "MAX_SHARE", 1.0)
    loop = build_loop(tmp_path)
    before, random = copied(loop), torch.get_rng_state()
    progress = loop.resume()
    fly(loop, progress)
    assert_same(copied(loop), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in loop.step.model.parameters())
    assert progress == Progress()
    assert not list(tmp_path.iterdir())


def test_the_steps_are_those_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflights, "MAX_SHARE", 1.0)
    taken: dict[str, list[Any]] = {"preflight": [], "run": []}
    take = TrainingStep.take
    for name, numbers in taken.items():

        def recorded(step: TrainingStep, group: list[Batch], *, numbers=numbers, **options: Any):
            numbers.append((len(group), *options.values()))
            return take(step, group, **options)

        monkeypatch.setattr(TrainingStep, "take", recorded)
        loop = build_loop(tmp_path / name)
        if name == "preflight":
            fly(loop, Progress())
        else:
            fit(loop)
    assert taken["preflight"] == taken["run"]
    assert len(taken["run"]) == EPOCHS * 3


@given(st.integers(min_value=1, max_value=10**7))
def test_the_preflight_of_a_short_run_is_short(left: int) -> None:
    warmup, limit = quota(left)
    assert limit >= 1
    assert warmup + limit <= max(1, 0.03 * left)
    assert warmup <= limit


def test_the_forecast_counts_steps_evaluations_and_the_last_scoring(tmp_path: Path) -> None:
    rates = Rates(steps=12, step_seconds=0.5, img_s=128, data_wait_share=0.1, scoring_img_s=200)
    assert rates.seconds(Left(steps=100, evaluations=3, rows_to_score=3 * 400 + 800)) == 60
    loop = build_loop(tmp_path, eval_every=2)
    assert fly(loop, Progress())["left"] == {
        "steps": 9,
        "evaluations": 2,
        "rows_to_score": 2 * 27 + 54,
    }
    assert fly(loop, Progress(epoch=2, batch=2, step=7))["left"] == {
        "steps": 2,
        "evaluations": 1,
        "rows_to_score": 27 + 54,
    }


def test_what_is_forecast_is_what_was_measured(tmp_path: Path) -> None:
    found = fly(build_loop(tmp_path), Progress())
    tried, left = found["tried"], found["left"]
    expected = (
        left["steps"] * tried["step_seconds"] + left["rows_to_score"] / tried["scoring_img_s"]
    )
    assert found["forecast_s"] == pytest.approx(expected, abs=0.06)
    assert tried["steps"] == 1
    assert 0 <= tried["data_wait_share"] <= 1


def test_incident_T4_a_plan_over_max_hours_is_refused(tmp_path: Path) -> None:
    loop = build_loop(tmp_path)
    fly(loop, Progress(), max_hours=24)
    with pytest.raises(UserError, match=r"machine\.max_hours: 1e-09 hours are allowed, the forec"):
        fly(loop, Progress(), max_hours=1e-9)


def test_incident_T4_a_batch_that_does_not_fit_the_gpu_names_what_to_change(tmp_path: Path) -> None:
    loop = build_loop(tmp_path)

    def out_of_memory(_gradient: torch.Tensor) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has")

    before = copied(loop)
    loop.step.model.body[0].weight.register_hook(out_of_memory)
    with pytest.raises(
        UserError,
        match=r"stageA\.batch_size: 32 images of stageA\.image_size 48 px do not fit the GPU: CUDA out",
    ):
        fly(loop, Progress())
    assert_same(copied(loop), before)


def test_a_non_finite_first_loss_stops_before_the_first_epoch(tmp_path: Path) -> None:
    loop = build_loop(tmp_path, poison=2)  # the first batch only starts workers
    before = copied(loop)
    with pytest.raises(NonFiniteError, match="the loss of step 0 is nan"):
        fly(loop, Progress())
    assert_same(copied(loop), before)
    assert not list(tmp_path.iterdir())


def test_a_stop_during_the_preflight_ends_it(tmp_path: Path) -> None:
    loop = build_loop(tmp_path)
    loop.stop.signal_number = signal.SIGTERM
    with pytest.raises(InterruptedRunError, match="signal 15"):
        fly(loop, Progress())


def test_a_single_batch_can_be_scored(tmp_path: Path) -> None:
    found = fly(
        build_loop(tmp_path), Progress(), val=ValBatches(VAL[:1]), num_val=6, num_scored=6000
    )
    assert found["tried"]["scoring_img_s"] > 0


def test_what_the_run_took_stands_beside_the_last_forecast(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, last = {"forecast_s": 50.0, "took_s": None}, {"forecast_s": 100.0, "took_s": None}
    history = [{"preflight": first}, {"preflight": last}, {"preflight": None}, {}]
    with caplog.at_level("INFO"):
        settle_forecast(history, took_s=110.0)
    assert (first["took_s"], last["took_s"]) == (None, 110.0)
    assert "forecast 0:01:40, took 0:01:50 (+10 %)" in caplog.text
