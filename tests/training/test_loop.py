"""The loop: a run that is stopped anywhere ends in the same bits, and its record tells the truth."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.computing.team import Team
from stages.runtime.errors import InterruptedRunError, UserError
from stages.training.checkpoint import load_checkpoint, save_checkpoint
from stages.training.loop import CosineSchedule
from stages.training.losses import NonFiniteError
from stages.training.progress import CLOCK_KEYS, Progress
from tests.training.small_loop import (
    BATCH_SIZE,
    EPOCHS,
    NUM_BATCHES,
    build_loop,
    final_state,
    fit,
)


@pytest.mark.parametrize("checkpoint_seconds", [1e9, 0.0])
@pytest.mark.parametrize("stop_after", [1, 4, 7])
def test_incident_R8_a_run_stopped_anywhere_ends_in_the_same_bits(
    tmp_path: Path, stop_after: int, checkpoint_seconds: float
) -> None:
    fit(build_loop(tmp_path / "whole"))
    interrupted = tmp_path / "interrupted"
    with pytest.raises(InterruptedRunError, match="signal 15"):
        fit(build_loop(interrupted, stop_after=stop_after, checkpoint_seconds=checkpoint_seconds))
    fit(build_loop(interrupted))
    whole, resumed = final_state(tmp_path / "whole"), final_state(interrupted)
    for part in ("model", "average"):
        for name, tensor in whole[part].items():
            assert torch.equal(tensor, resumed[part][name]), name
    assert whole["progress"]["history"] == resumed["progress"]["history"]
    assert whole["progress"]["best"] == resumed["progress"]["best"]
    best = whole["progress"]["best"]["file"]
    assert (tmp_path / "whole" / best).read_bytes() == (interrupted / best).read_bytes()


def test_incident_R1_history_survives_a_resume(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        fit(build_loop(tmp_path, stop_after=7))
    progress = fit(build_loop(tmp_path))
    assert [record["epoch"] for record in progress.history] == [1, 2, 3]


def test_incident_R2_the_checkpoint_knows_the_best_of_its_epoch(tmp_path: Path) -> None:
    progress = fit(build_loop(tmp_path))
    best = max(progress.history, key=lambda record: record["val"]["macro_f1"])
    assert final_state(tmp_path)["progress"]["best"]["val"] == best["val"]


def test_incident_R10_a_checkpoint_by_the_clock_saves_the_middle_of_an_epoch(
    tmp_path: Path,
) -> None:
    poisoned = build_loop(tmp_path, checkpoint_seconds=0.0, poison=4)
    with pytest.raises(UserError, match="the loss of step 1 is nan"):
        fit(poisoned)
    assert final_state(tmp_path)["progress"]["batch"] == 2


def test_an_infinite_gradient_of_a_finite_loss_stops_before_it_is_kept(tmp_path: Path) -> None:
    broken = build_loop(tmp_path, checkpoint_seconds=0.0)
    weight = broken.step.model.body[0].weight
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(UserError, match="the norm of the gradient of step 0 is"):
        fit(broken)
    assert not list(tmp_path.iterdir())


def test_incident_T5_the_remainder_of_an_accumulation_is_a_step(tmp_path: Path) -> None:
    progress = fit(build_loop(tmp_path, accumulate=2))
    assert progress.step == EPOCHS * 3


def test_incident_T6_the_last_epoch_is_always_evaluated(tmp_path: Path) -> None:
    progress = fit(build_loop(tmp_path, eval_every=2))
    assert [record["val"] is not None for record in progress.history] == [False, True, True]


def test_incident_T7_a_finished_run_says_that_nothing_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(build_loop(tmp_path))
    with caplog.at_level("INFO"):
        progress = fit(build_loop(tmp_path))
    assert "nothing to train: all 3 epochs of this run are done" in caplog.text
    assert len(progress.history) == EPOCHS


class DividedTeam(Team):
    """Two processes of which only one sees the checkpoint."""

    def gather(self, value):
        return [value, None]


def test_processes_that_see_different_checkpoints_do_not_go_on(tmp_path: Path) -> None:
    fit(build_loop(tmp_path))
    loop = build_loop(tmp_path)
    loop.step.team = DividedTeam()
    with pytest.raises(UserError, match=r"see different checkpoints \(of steps \[9, None\]\)"):
        loop.resume()


def test_nll_is_better_when_it_is_lower(tmp_path: Path) -> None:
    progress = fit(build_loop(tmp_path, select_by="nll"))
    lowest = min(record["val"]["nll"] for record in progress.history)
    assert progress.best["val"]["nll"] == lowest


def test_the_record_of_an_epoch_says_what_it_cost(tmp_path: Path) -> None:
    progress = fit(build_loop(tmp_path, checkpoint_seconds=0.0))
    for record in progress.history:
        assert set(CLOCK_KEYS) < set(record)
        assert record["images"] == (NUM_BATCHES - 1) * BATCH_SIZE + 3
        assert record["seconds"] > 0
        assert record["checkpoint_seconds"] > 0
        assert record["peak_gpu_bytes"] is None


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        fit(build_loop(tmp_path, stop_after=7))
    state = load_checkpoint(tmp_path)
    assert state is not None
    for key in ("checkpoint_seconds", "preflight"):
        del state["progress"][key]
    for record in state["progress"]["history"]:
        for key in ("images", "seconds", "eval_seconds", "checkpoint_seconds", "preflight"):
            del record[key]
    save_checkpoint(tmp_path, state)
    assert len(fit(build_loop(tmp_path)).history) == EPOCHS


def test_a_non_finite_step_says_which_rows_it_had_and_keeps_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    with pytest.raises(NonFiniteError, match=r"step 3 is nan .* in this step: \[0, 1, 2") as caught:
        fit(build_loop(tmp_path, poison=NUM_BATCHES + 1))
    state = final_state(tmp_path)
    assert state["progress"]["epoch"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())
    error = caught.value
    assert error.rows == [*range(6), *range(100, 106)]
    assert (error.step, error.gradient_norm) == (3, None)
    assert error.loss != error.loss
    assert error.learning_rate == pytest.approx(build_loop(tmp_path).plan.schedule.at(3))


def test_waiting_is_part_of_a_step_and_what_lies_between_steps_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("stages.training.loop.time.monotonic", lambda: now[0])
    loop, progress = build_loop(tmp_path, accumulate=1), Progress()
    take, made = loop.step.take, loop.batches.epoch

    def slow_batches(*args, **options):
        for batch in made(*args, **options):
            now[0] += 2
            yield batch

    def slow_step(*args, **options):
        now[0] += 3
        return take(*args, **options)

    monkeypatch.setattr(loop.batches, "epoch", slow_batches)
    monkeypatch.setattr(loop.step, "take", slow_step)
    for _ in loop.steps(progress):
        now[0] += 50  # a checkpoint
    assert progress.images == 4 * BATCH_SIZE + 3
    assert (progress.seconds, progress.wait_seconds) == (5 * NUM_BATCHES, 2 * NUM_BATCHES)


SCHEDULE = CosineSchedule(peak=3e-4, floor=1e-5, warmup_steps=10, total_steps=100)


def test_the_rate_warms_up_in_equal_steps_and_ends_at_the_floor() -> None:
    assert [SCHEDULE.at(step) for step in (0, 4, 9)] == pytest.approx([3e-5, 1.5e-4, 3e-4])
    assert SCHEDULE.at(54) == pytest.approx((3e-4 + 1e-5) / 2, rel=0.02)
    assert all(SCHEDULE.at(step) > SCHEDULE.at(step + 1) for step in range(10, 99))
    assert SCHEDULE.at(99) == pytest.approx(1e-5)
    assert CosineSchedule(peak=1.0, floor=0.1, warmup_steps=0, total_steps=1).at(0) == 1.0


@given(st.integers(min_value=99, max_value=10**9))
def test_incident_T5_the_cosine_never_rises_again_past_its_end(step: int) -> None:
    assert SCHEDULE.at(step) == pytest.approx(1e-5)
