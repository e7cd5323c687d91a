"""The loop: a run that is stopped anywhere ends in the same bits, and its record tells the truth."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.errors import InterruptedRunError, UserError
from stages.runtime.files import sha256_file
from stages.training.checkpoint import load_checkpoint, save_checkpoint
from stages.training.loop import CosineSchedule
from stages.training.progress import Progress, describe_duration, describe_epoch, describe_progress
from tests.training.small_loop import (
    BATCH_SIZE,
    EPOCHS,
    NUM_BATCHES,
    assert_same,
    build_loop,
    final_state,
    fit,
)


class KilledError(BaseException):
    """The process is gone: no `except Exception` sees it."""


def interrupt(folder: Path, *, after: int, **plan: float) -> None:
    with pytest.raises(InterruptedRunError, match="signal 15"):
        fit(build_loop(folder, stop_after=after, **plan))


@pytest.mark.parametrize("checkpoint_seconds", [1e9, 0.0])
@pytest.mark.parametrize("stop_after", [1, 4, 7])
def test_incident_R1_R8_a_run_stopped_anywhere_ends_in_the_same_bits_and_history(
    tmp_path: Path, stop_after: int, checkpoint_seconds: float
) -> None:
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    best = fit(build_loop(whole)).best["file"]
    interrupt(interrupted, after=stop_after, checkpoint_seconds=checkpoint_seconds)
    fit(build_loop(interrupted))
    assert_same(final_state(whole), final_state(interrupted))
    assert (whole / best).read_bytes() == (interrupted / best).read_bytes()


@pytest.mark.parametrize(("select_by", "best_epoch"), [("macro_f1", 1), ("nll", 3)])
def test_incident_R2_a_run_that_is_killed_at_any_write_ends_with_the_same_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select_by: str, best_epoch: int
) -> None:
    undisturbed = fit(build_loop(tmp_path / "whole", select_by=select_by)).best
    assert undisturbed["epoch"] == best_epoch
    kept = {path.name for path in (tmp_path / "whole").glob("best-*")}
    assert kept <= {undisturbed["file"], undisturbed["before"]}
    for death in count(1):
        folder = tmp_path / str(death)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", dying_at(death))
            try:
                fit(build_loop(folder, select_by=select_by))
                break
            except KilledError:
                pass
        best = fit(build_loop(folder, select_by=select_by)).best
        assert {**best, "before": ""} == {**undisturbed, "before": ""}
        assert sha256_file(folder / best["file"]) == undisturbed["sha256"]
    # As many best weights, and a checkpoint with its status in each epoch.
    assert death > best_epoch + 2 * EPOCHS


def dying_at(number: int) -> Callable[[Path, Path], Path]:
    """Move files into place, and kill the process at the `number`-th."""
    move, numbers = Path.replace, count(1)

    def die(source: Path, target: Path) -> Path:
        if next(numbers) >= number:
            raise KilledError
        return move(source, target)

    return die


def test_incident_T5_the_logged_loss_is_that_of_an_image_however_much_is_accumulated(
    tmp_path: Path,
) -> None:
    records = []
    for accumulate in (1, 2):
        # Nothing is learnt, dropped or made harder: only how batches are grouped differs.
        flat = CosineSchedule(peak=0.0, floor=0.0, warmup_steps=0, total_steps=99)
        same = {"schedule": flat, "margin_at": lambda _: 0.1, "dropout": 0.0}
        loop = build_loop(tmp_path / str(accumulate), accumulate=accumulate, **same)
        records.append(fit(loop).history)
    one_by_one, grouped = ([record["train_loss"] for record in history] for history in records)
    assert grouped == pytest.approx(one_by_one, rel=1e-5)
    # The batches that remain of an epoch are a step.
    assert [record["step"] for record in records[1]] == [3, 6, 9]


def test_incident_T6_the_last_epoch_is_always_evaluated(tmp_path: Path) -> None:
    progress = fit(build_loop(tmp_path, eval_every=2))
    assert [record["val"] is not None for record in progress.history] == [False, True, True]


def test_processes_that_see_different_checkpoints_do_not_go_on(tmp_path: Path) -> None:
    fit(build_loop(tmp_path))
    loop = build_loop(tmp_path)
    loop.step.team = SimpleNamespace(gather=lambda step: [step, None])
    with pytest.raises(UserError, match=r"see different checkpoints \(of steps \[9, None\]\)"):
        loop.resume()


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    interrupt(tmp_path, after=7)
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

    def tick(seconds: float) -> float:
        now[0] += seconds
        return now[0]

    def slow_batches(*args, **options):
        for batch in made(*args, **options):
            tick(2)
            yield batch

    monkeypatch.setattr("stages.training.loop.time.monotonic", lambda: tick(0))
    loop = build_loop(tmp_path, accumulate=1, margin_at=lambda _: 0 * tick(3))
    made, progress = loop.batches.epoch, Progress()
    monkeypatch.setattr(loop.batches, "epoch", slow_batches)
    for _ in loop.steps(progress):
        tick(50)  # a checkpoint
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
