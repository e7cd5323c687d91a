"""An epoch's record holds what the epoch was and what it cost."""

import pytest

from stages.training.progress import (
    CLOCK_KEYS,
    Progress,
    describe_duration,
    describe_epoch,
    describe_progress,
)


def close(progress: Progress) -> None:
    progress.close_epoch(
        learning_rate=1e-3,
        margin_rad=0.1,
        rows_seen_share=1.0,
        scores={"n": 4, "macro_f1": 0.5},
        eval_seconds=2.5,
        peak_gpu_bytes=2**30,
    )


def busy() -> Progress:
    return Progress(
        batch=10,
        step=10,
        loss_sum=150.0,
        images=100,
        seconds=8.0,
        wait_seconds=2.0,
        checkpoint_seconds=0.5,
        preflight={"forecast_s": 12.0},
    )


def test_a_record_holds_what_the_epoch_was_and_what_it_cost() -> None:
    progress = busy()
    close(progress)
    assert progress.history == [
        {
            "epoch": 1,
            "step": 10,
            "learning_rate": 1e-3,
            "margin_rad": 0.1,
            "train_loss": 1.5,
            "rate_img_s": 12.5,
            "data_wait_share": 0.25,
            "images": 100,
            "rows_seen_share": 1.0,
            "seconds": 8.0,
            "eval_seconds": 2.5,
            "checkpoint_seconds": 0.5,
            "peak_gpu_bytes": 2**30,
            "val": {"n": 4, "macro_f1": 0.5},
            "preflight": {"forecast_s": 12.0},
        }
    ]
    assert set(CLOCK_KEYS) < set(progress.history[0])
    assert progress == Progress(epoch=1, step=10, history=progress.history)


def test_the_checkpoint_behind_an_epoch_counts_to_it() -> None:
    progress = busy()
    close(progress)
    progress.count_checkpoint(0.25)
    assert progress.history[0]["checkpoint_seconds"] == 0.75
    assert progress.checkpoint_seconds == 0.0


@pytest.mark.parametrize(
    ("select_by", "new", "better"),
    [("macro_f1", 0.6, True), ("macro_f1", 0.5, False), ("nll", 0.4, True), ("nll", 0.5, False)],
)
def test_only_what_beats_the_best_is_better(select_by: str, new: float, better: bool) -> None:
    assert Progress().is_better({select_by: new}, select_by=select_by)
    progress = Progress(best={"val": {select_by: 0.5}})
    assert progress.is_better({select_by: new}, select_by=select_by) is better


def test_a_line_says_how_fast_an_epoch_goes_and_how_much_is_left() -> None:
    progress = Progress(
        epoch=1, batch=4, images=256, seconds=8.0, wait_seconds=2.0, loss_sum=256 * 1.5
    )
    assert describe_progress(progress, num_batches=10, epochs=3) == (
        "epoch 2 of 3, batch 4 of 10: loss 1.5000, 32 img/s, data wait 25 %, 0:00:32 left"
    )


def test_the_line_of_an_epoch_shows_a_gpus_memory_where_there_is_one() -> None:
    record = {
        "epoch": 2,
        "train_loss": 1.25,
        "rate_img_s": 310.4,
        "data_wait_share": 0.04,
        "peak_gpu_bytes": 3 * 2**30,
        "val": {"n": 10, "macro_f1": 0.5},
    }
    text = "epoch 2 of 5: loss 1.2500, 310 img/s, data wait 4%"
    scores = "; val n 10, macro_f1 0.5"
    assert describe_epoch(record, epochs=5) == f"{text}, GPU memory 3.0 GiB{scores}"
    assert describe_epoch(record | {"peak_gpu_bytes": None}, epochs=5) == f"{text}{scores}"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (36e4, "100:00:00")],
)
def test_durations_are_hours_minutes_and_seconds(seconds: float, shown: str) -> None:
    assert describe_duration(seconds) == shown
