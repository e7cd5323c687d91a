"""The preflight: a few real steps that leave no trace, and a forecast that can refuse a run."""

import copy
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.errors import InterruptedRunError, UserError
from stages.training import preflight as preflights
from stages.training.loop import Loop
from stages.training.losses import NonFiniteError
from stages.training.preflight import quota, settle_forecast
from stages.training.progress import Progress
from tests.training.small_loop import (
    VAL,
    ValBatches,
    assert_same,
    build_loop,
    final_state,
    fit,
    fly,
)


@pytest.mark.parametrize(
    ("share", "accumulate", "stop_after"), [(0.02, 1, -1), (0.5, 2, -1), (1.0, 1, -1), (1.0, 2, 7)]
)
def test_a_run_with_a_preflight_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, accumulate: int, stop_after: int
) -> None:
    monkeypatch.setattr(preflights, "MAX_SHARE", share)
    fit(build_loop(tmp_path / "without", accumulate=accumulate))
    if stop_after > 0:
        with pytest.raises(InterruptedRunError):
            fit(build_loop(tmp_path / "with", accumulate=accumulate, stop_after=stop_after))
    loop = build_loop(tmp_path / "with", accumulate=accumulate)
    progress = loop.resume()
    assert (progress.batch > 0) == (stop_after > 0)
    progress.preflight = fly(loop, progress)
    loop.fit(progress)
    assert_same(final_state(tmp_path / "without"), final_state(tmp_path / "with"))


@given(st.integers(min_value=1, max_value=10**7))
def test_the_preflight_of_a_short_run_is_short(left: int) -> None:
    warmup, limit = quota(left)
    assert limit >= 1
    assert warmup + limit <= max(1, 0.03 * left)
    assert warmup <= limit


def test_the_forecast_counts_steps_evaluations_and_the_last_scoring(tmp_path: Path) -> None:
    record = fly(build_loop(tmp_path, eval_every=2), Progress(epoch=1, batch=2, step=4))
    assert record["left"] == {"steps": 5, "evaluations": 2, "rows_to_score": 2 * 27 + 54}
    tried = record["tried"]
    expected = 5 * tried["step_seconds"] + 108 / tried["scoring_img_s"]
    assert record["forecast_s"] == pytest.approx(expected, abs=0.06)


def fill_memory(loop: Loop) -> None:
    def out_of_memory(_gradient: torch.Tensor) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has")

    loop.step.model.body[0].weight.register_hook(out_of_memory)


def poison(loop: Loop) -> None:
    loop.batches.poison = 2  # the first batch only starts workers


def ask_to_stop(loop: Loop) -> None:
    loop.stop.signal_number = signal.SIGTERM


@pytest.mark.parametrize(
    ("happen", "error", "expected"),
    [
        (fill_memory, UserError, r"32 images of stageA\.image_size 48 px do not fit the GPU: CUDA"),
        (poison, NonFiniteError, "the loss of step 0 is nan"),
        (ask_to_stop, InterruptedRunError, "signal 15"),
    ],
)
def test_incident_T4_what_ends_a_preflight_leaves_no_trace(
    tmp_path: Path, happen: Callable[[Loop], None], error: type[Exception], expected: str
) -> None:
    loop = build_loop(tmp_path)
    before = copy.deepcopy(loop.step.state())
    happen(loop)
    with pytest.raises(error, match=expected):
        fly(loop, Progress())
    assert_same(loop.step.state(), before)
    assert not list(tmp_path.iterdir())


def test_a_single_batch_can_be_scored(tmp_path: Path) -> None:
    record = fly(build_loop(tmp_path), Progress(), val=ValBatches(VAL[:1]))
    assert record["tried"]["scoring_img_s"] > 0


def test_what_the_run_took_stands_beside_the_last_forecast(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, last = {"forecast_s": 50.0, "took_s": None}, {"forecast_s": 100.0, "took_s": None}
    history = [{"preflight": first}, {"preflight": last}, {"preflight": None}, {}]
    with caplog.at_level("INFO"):
        settle_forecast(history, took_s=110.0)
    assert (first["took_s"], last["took_s"]) == (None, 110.0)
    assert "forecast 0:01:40, took 0:01:50 (+10 %)" in caplog.text
