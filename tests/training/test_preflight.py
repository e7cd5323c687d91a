"""The preflight: a few real steps that leave no trace, and a forecast that can refuse a run."""

import copy
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.config import SamplerFill, load_params
from stages.runtime.errors import InterruptedRunError, UserError
from stages.runtime.signals import StopRequest
from stages.training import preflight as preflights
from stages.training.compilation import Wanted
from stages.training.engine import Engine
from stages.training.memory import peak_gpu_bytes, peak_memory, too_large
from stages.training.outcomes import NonFiniteError
from stages.training.preflight import Left, Rates, Scoring, preflight, quota, settle
from stages.training.progress import Progress
from tests.training.small_engine import (
    CPU,
    EPOCHS,
    SyntheticBatches,
    build_engine,
    final_state,
    fit,
)

SECTION = load_params(Path(__file__).parents[2] / "params.yaml").stageA
# An evaluation of 27 rows in 5 batches.
SCORING = Scoring(list(SyntheticBatches(StopRequest()).epoch(9, start_batch=0)), 27, 54)


def fly(
    engine: Engine,
    progress: Progress,
    *,
    scoring: Scoring = SCORING,
    models: Path = Path("models"),
    max_hours: float | None = None,
    compiling: Wanted = "auto",
) -> dict[str, Any]:
    return preflight(
        engine, progress, scoring=scoring, section=SECTION, key="stageA", models=models,
        max_hours=max_hours, compiling=compiling,
    )  # fmt: skip


def assert_same(left: Any, right: Any) -> None:
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert left == right


def copied(engine: Engine) -> Any:
    return copy.deepcopy(engine.machinery.state())


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_with_a_preflight_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int, share: float
) -> None:
    monkeypatch.setattr(preflights, "MAX_SHARE", share)
    fit(build_engine(tmp_path / "without", accumulate=accumulate))
    engine = build_engine(tmp_path / "with", accumulate=accumulate)
    progress = engine.resume()
    progress.preflight = fly(engine, progress)
    engine.fit(progress)
    assert_same(final_state(tmp_path / "without"), final_state(tmp_path / "with"))


def test_a_resumed_run_with_a_preflight_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflights, "MAX_SHARE", 1.0)
    fit(build_engine(tmp_path / "without"))
    with pytest.raises(InterruptedRunError):
        fit(build_engine(tmp_path / "with", stop_after=7))
    engine = build_engine(tmp_path / "with")
    progress = engine.resume()
    assert progress.batch > 0
    fly(engine, progress)
    engine.fit(progress)
    assert_same(final_state(tmp_path / "without"), final_state(tmp_path / "with"))


def test_nothing_that_the_preflight_changed_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflights, "MAX_SHARE", 1.0)
    engine = build_engine(tmp_path)
    before, random = copied(engine), torch.get_rng_state()
    progress = engine.resume()
    fly(engine, progress)
    assert_same(copied(engine), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in engine.machinery.model.parameters())
    assert progress == Progress()
    assert not list(tmp_path.iterdir())


def test_the_steps_are_those_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, float, float, int]] = []
    for name in ("preflight", "run"):
        monkeypatch.setattr(preflights, "MAX_SHARE", 1.0)
        engine = build_engine(tmp_path / name)
        step = engine.machinery.step
        engine.machinery.step = (  # type: ignore[method-assign]
            lambda group, step=step, **options: (
                taken.append(
                    (options["number"], options["learning_rate"], options["margin_rad"], len(group))
                ),
                step(group, **options),
            )[1]
        )
        if name == "preflight":
            fly(engine, Progress())
        else:
            fit(engine)
    half = len(taken) // 2
    assert taken[:half] == taken[half:]
    assert half == EPOCHS * 3


@given(st.integers(min_value=1, max_value=10**7))
def test_the_preflight_of_a_short_run_is_short(left: int) -> None:
    warmup, limit = quota(left)
    assert limit >= 1
    assert warmup + limit <= max(1, 0.03 * left)
    assert warmup <= limit


def test_the_forecast_counts_steps_evaluations_and_the_last_scoring(tmp_path: Path) -> None:
    rates = Rates(steps=12, step_seconds=0.5, img_s=128, data_wait_share=0.1, scoring_img_s=200)
    assert rates.seconds(Left(steps=100, evaluations=3, rows_to_score=3 * 400 + 800)) == 60
    engine = build_engine(tmp_path, eval_every=2)
    assert fly(engine, Progress())["left"] == {
        "steps": 9, "evaluations": 2, "rows_to_score": 2 * 27 + 54,
    }  # fmt: skip
    assert fly(engine, Progress(epoch=2, batch=2, step=7))["left"] == {
        "steps": 2, "evaluations": 1, "rows_to_score": 27 + 54,
    }  # fmt: skip


def test_what_is_forecast_is_what_was_measured(tmp_path: Path) -> None:
    found = fly(build_engine(tmp_path), Progress())
    tried, left = found["tried"], found["left"]
    expected = (
        left["steps"] * tried["step_seconds"] + left["rows_to_score"] / tried["scoring_img_s"]
    )
    assert found["forecast_s"] == pytest.approx(expected, abs=0.06)
    assert tried["steps"] == 1
    assert 0 <= tried["data_wait_share"] <= 1


def test_incident_T4_a_plan_over_max_hours_is_refused(tmp_path: Path) -> None:
    engine = build_engine(tmp_path)
    fly(engine, Progress(), max_hours=24)
    with pytest.raises(UserError, match=r"machine\.max_hours: 1e-09 hours are allowed, the forec"):
        fly(engine, Progress(), max_hours=1e-9)


def test_incident_T4_a_batch_that_does_not_fit_the_gpu_names_what_to_change(tmp_path: Path) -> None:
    engine = build_engine(tmp_path)

    def out_of_memory(_gradient: torch.Tensor) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has")

    before = copied(engine)
    engine.machinery.model.body[0].weight.register_hook(out_of_memory)
    with pytest.raises(
        UserError,
        match=r"stageA\.batch_size: 32 images of stageA\.image_size 48 px do not fit the GPU: CUDA out",
    ):
        fly(engine, Progress())
    assert_same(copied(engine), before)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "do not fit the GPU: it; a smaller batch_size, of 3 at least, with more stageA.accumulate"),
        ({"batch_size": 3}, "do not fit the GPU: it; a smaller stageA.image_size"),
        (
            {"prior": SamplerFill(kind="sampler_fill", min_per_class=2)},
            "of 14 at least, with more stageA.accumulate takes steps of as many images (batch norm "
            "then sees the smaller batches, and each of them is filled up, so rare classes are",
        ),
        (
            {"prior": SamplerFill(kind="sampler_fill", min_per_class=4), "batch_size": 28},
            "do not fit the GPU: it; a smaller stageA.image_size",
        ),
    ],
)  # fmt: skip
def test_reported_what_does_not_fit_the_gpu_is_told_only_what_helps(
    changes: dict[str, Any], expected: str
) -> None:
    section = SECTION.model_copy(update=changes)
    assert expected in str(too_large(section, key="stageA", least=3, reason="it"))


def test_a_non_finite_first_loss_stops_before_the_first_epoch(tmp_path: Path) -> None:
    engine = build_engine(tmp_path, poison=2)  # the first batch only starts workers
    before = copied(engine)
    with pytest.raises(NonFiniteError, match="the loss of step 0 is nan"):
        fly(engine, Progress())
    assert_same(copied(engine), before)
    assert not list(tmp_path.iterdir())


def test_a_stop_during_the_preflight_ends_it(tmp_path: Path) -> None:
    engine = build_engine(tmp_path)
    engine.stop.signal_number = signal.SIGTERM
    with pytest.raises(InterruptedRunError, match="signal 15"):
        fly(engine, Progress())


def test_a_single_batch_can_be_scored(tmp_path: Path) -> None:
    lone = Scoring(list(SCORING.batches)[:1], 6, 6000)
    found = fly(build_engine(tmp_path), Progress(), scoring=lone)
    assert found["tried"]["scoring_img_s"] > 0


def test_what_the_run_took_stands_beside_the_last_forecast(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, last = {"forecast_s": 50.0, "took_s": None}, {"forecast_s": 100.0, "took_s": None}
    history = [{"preflight": first}, {"preflight": last}, {"preflight": None}, {}]
    with caplog.at_level("INFO"):
        settle(history, took_s=110.0)
    assert (first["took_s"], last["took_s"]) == (None, 110.0)
    assert "forecast 0:01:40, took 0:01:50 (+10 %)" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="the peak of a process is not told there")
def test_peak_memory_of_a_process_grows_with_what_it_holds() -> None:
    before = peak_memory(CPU)
    assert before is not None
    held = torch.ones(before.peak // 4 + 100 * 2**20)  # more than the peak there was, in bytes
    after = peak_memory(CPU)
    assert after is not None
    assert before.peak + held.nbytes // 2 < after.peak <= after.total
    assert peak_gpu_bytes(CPU) is None
