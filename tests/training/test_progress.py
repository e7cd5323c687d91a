"""An epoch's record holds what the epoch was and what it cost."""

import pytest

from stages.training.progress import (
    Progress,
    describe_duration,
    describe_epoch,
    describe_progress,
)


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
