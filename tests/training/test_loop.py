"""The loop: a run that is stopped anywhere ends in the same bits, and its record tells the truth."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.computing.team import Team
from stages.runtime.errors import InterruptedRunError, UserError
from stages.training.checkpoint import load_checkpoint, save_checkpoint
from stages.training.loop import CosineSchedule
from stages.training.progress import (
    CLOCK_KEYS,
    Progress,
    describe_duration,
    describe_epoch,
    describe_progress,
)
from tests.training.small_loop import (
    BATCH_SIZE,
    EPOCHS,
    NUM_BATCHES,
    assert_same,
    build_loop,
    final_state,
    fit,
)


def interrupt(folder: Path, *, after: int = 7, **plan: float) -> None:
    with pytest.raises(InterruptedRunError, match="signal 15"):
        fit(build_loop(folder, stop_after=after, **plan))


@pytest.mark.parametrize("checkpoint_seconds", [1e9, 0.0])
@pytest.mark.parametrize("stop_after", [1, 4, 7])
def test_incident_R8_a_run_stopped_anywhere_ends_in_the_same_bits(
    tmp_path: Path, stop_after: int, checkpoint_seconds: float
) -> None:
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    best = fit(build_loop(whole)).best["file"]
    interrupt(interrupted, after=stop_after, checkpoint_seconds=checkpoint_seconds)
    fit(build_loop(interrupted))
    assert_same(final_state(whole), final_state(interrupted))
    assert (whole / best).read_bytes() == (interrupted / best).read_bytes()


def test_incident_R1_history_survives_a_resume(tmp_path: Path) -> None:
    interrupt(tmp_path)
    assert [record["epoch"] for record in fit(build_loop(tmp_path)).history] == [1, 2, 3]


def test_incident_R2_the_checkpoint_knows_the_best_of_its_epoch(tmp_path: Path) -> None:
    progress = fit(build_loop(tmp_path))
    best = max(progress.history, key=lambda record: record["val"]["macro_f1"])
    assert final_state(tmp_path)["progress"]["best"]["val"] == best["val"]


def test_incident_R10_a_checkpoint_by_the_clock_saves_the_middle_of_an_epoch(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match="the loss of step 1 is nan"):
        fit(build_loop(tmp_path, checkpoint_seconds=0.0, poison=4))
    assert final_state(tmp_path)["progress"]["batch"] == 2


def test_incident_T5_the_remainder_of_an_accumulation_is_a_step(tmp_path: Path) -> None:
    assert fit(build_loop(tmp_path, accumulate=2)).step == EPOCHS * 3


def test_incident_T6_the_last_epoch_is_always_evaluated(tmp_path: Path) -> None:
    progress = fit(build_loop(tmp_path, eval_every=2))
    assert [record["val"] is not None for record in progress.history] == [False, True, True]


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


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    interrupt(tmp_path)
    state = load_checkpoint(tmp_path)
    assert state is not None
    for key in ("checkpoint_seconds", "preflight"):
        del state["progress"][key]
    for record in state["progress"]["history"]:
        for key in ("images", "seconds", "eval_seconds", "checkpoint_seconds", "preflight"):
            del record[key]
    save_checkpoint(tmp_path, state)
    assert len(fit(build_loop(tmp_path)).history) == EPOCHS


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
    assert CosineSchedule(peak=1.0, floor=0.1, warmup_steps=0, total_steps=1).at(0) == 1.0


@given(st.integers(min_value=99, max_value=10**9))
def test_incident_T5_the_cosine_never_rises_again_past_its_end(step: int) -> None:
    assert SCHEDULE.at(step) == pytest.approx(1e-5)


def test_the_record_of_an_epoch_says_what_it_cost(tmp_path: Path) -> None:
    progress = fit(build_loop(tmp_path, checkpoint_seconds=0.0))
    for record in progress.history:
        assert set(CLOCK_KEYS) < set(record)
        assert record["images"] == (NUM_BATCHES - 1) * BATCH_SIZE + 3
        assert record["checkpoint_seconds"] > 0
    assert (progress.images, progress.loss_sum, progress.batch) == (0, 0.0, 0)


@pytest.mark.parametrize(
    ("select_by", "new", "better"),
    [("macro_f1", 0.6, True), ("macro_f1", 0.5, False), ("nll", 0.4, True), ("nll", 0.5, False)],
)
def test_only_what_beats_the_best_is_better(select_by: str, new: float, better: bool) -> None:
    assert Progress().is_better({select_by: new}, select_by=select_by)
    progress = Progress(best={"val": {select_by: 0.5}})
    assert progress.is_better({select_by: new}, select_by=select_by) is better


def test_lines_say_how_fast_an_epoch_goes_and_how_much_is_left() -> None:
    progress = Progress(
        epoch=1, batch=4, images=256, seconds=8.0, wait_seconds=2.0, loss_sum=256 * 1.5
    )
    assert describe_progress(progress, num_batches=10, epochs=3) == (
        "epoch 2 of 3, batch 4 of 10: loss 1.5000, 32 img/s, data wait 25 %, 0:00:32 left"
    )
    record = {"epoch": 2, "train_loss": 1.25, "rate_img_s": 310.4, "data_wait_share": 0.04}
    record |= {"peak_gpu_bytes": 3 * 2**30}
    record |= {"val": {"n": 10, "macro_f1": 0.5, "temperature": None}}
    assert describe_epoch(record, epochs=5) == (
        "epoch 2 of 5: loss 1.2500, 310 img/s, data wait 4%, GPU memory 3.0 GiB; val n 10, macro_f1 0.5"
    )
    assert [describe_duration(s) for s in (59.6, 3725, 36e4)] == ["0:01:00", "1:02:05", "100:00:00"]
