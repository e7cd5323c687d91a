"""An epoch's record holds what the epoch was and what it cost."""

import pytest

from stages.training.progress import CLOCK_KEYS, Progress


def close(progress: Progress) -> None:
    progress.close_epoch(
        learning_rate=1e-3, margin_rad=0.1, rows_seen_share=1.0, scores={"n": 4, "macro_f1": 0.5}, eval_seconds=2.5,
        peak_gpu_bytes=2**30,
    )  # fmt: skip


def busy() -> Progress:
    return Progress(
        batch=10, step=10, loss_sum=150.0, images=100, seconds=8.0, wait_seconds=2.0,
        checkpoint_seconds=0.5, preflight={"forecast_s": 12.0},
    )  # fmt: skip


def test_a_record_holds_what_the_epoch_was_and_what_it_cost() -> None:
    progress = busy()
    close(progress)
    assert progress.history == [
        {
            "epoch": 1, "step": 10, "learning_rate": 1e-3, "margin_rad": 0.1, "train_loss": 1.5,
            "rate_img_s": 12.5, "data_wait_share": 0.25, "images": 100, "rows_seen_share": 1.0,
            "seconds": 8.0, "eval_seconds": 2.5, "checkpoint_seconds": 0.5, "peak_gpu_bytes": 2**30,
            "val": {"n": 4, "macro_f1": 0.5}, "preflight": {"forecast_s": 12.0},
        }
    ]  # fmt: skip
    assert set(CLOCK_KEYS) < set(progress.history[0])


def test_the_next_epoch_begins_with_nothing_counted() -> None:
    progress = busy()
    close(progress)
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
