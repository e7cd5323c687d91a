"""Seconds are counted where they belong, and a line says how much is left."""

import pytest

from stages.training import pace
from stages.training.pace import Pace, PaceLine, Stopwatch, describe_duration, describe_epoch
from stages.training.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_waiting_is_part_of_a_step_and_what_lies_between_steps_is_not(clock: list[float]) -> None:
    sums = Progress()
    counted = Pace(sums)

    def get() -> str:
        clock[0] += 2
        return "batch"

    for _ in range(3):
        assert counted.fetch(get) == "batch"
        clock[0] += 3
        counted.after_step(64)
        clock[0] += 50  # a checkpoint
    assert (sums.images, sums.seconds, sums.wait_seconds) == (192, 15, 6)


def test_a_line_is_logged_when_it_is_due(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    line = PaceLine(num_batches=10, epochs=3)
    sums = Progress(epoch=1, batch=4, images=256, seconds=8.0, wait_seconds=2.0, loss_sum=256 * 1.5)
    with caplog.at_level("INFO"):
        assert not line.is_due()
        clock[0] += pace.LINE_EVERY_SECONDS
        assert line.is_due()
        line.log(sums)
        assert not line.is_due()
    assert [record.getMessage() for record in caplog.records] == [
        "epoch 2 of 3, batch 4 of 10: loss 1.5000, 32 img/s, data wait 25 %, 0:00:32 left"
    ]


def test_a_stopwatch_shows_nothing_before_its_start(clock: list[float]) -> None:
    watch = Stopwatch()
    assert watch.seconds() is None
    watch.start()
    clock[0] += 7
    assert watch.seconds() == 7


def test_the_line_of_an_epoch_shows_a_gpus_memory_where_there_is_one() -> None:
    record = {
        "epoch": 2, "train_loss": 1.25, "rate_img_s": 310.4, "data_wait_share": 0.04,
        "peak_gpu_bytes": 3 * 2**30, "val": {"n": 10, "macro_f1": 0.5},
    }  # fmt: skip
    text = "epoch 2 of 5: loss 1.2500, 310 img/s, data wait 4%"
    scores = "; val n 10, macro_f1 0.5"
    assert describe_epoch(record, epochs=5) == f"{text}, GPU memory 3.0 GiB{scores}"
    assert describe_epoch(record | {"peak_gpu_bytes": None}, epochs=5) == f"{text}{scores}"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (36e4, "100:00:00")]
)  # fmt: skip
def test_durations_are_hours_minutes_and_seconds(seconds: float, shown: str) -> None:
    assert describe_duration(seconds) == shown
