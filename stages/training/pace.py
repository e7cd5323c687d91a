"""How fast a run goes, what share of it waits for data, and when it will be done."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from stages.training.progress import Progress

LINE_EVERY_SECONDS = 20.0

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Pace:
    """Adds up images, seconds and waiting of steps; what lies between two steps is left out."""

    def __init__(self, sums: Progress) -> None:
        self._sums = sums
        self._start = time.monotonic()

    def fetch(self, get: Callable[[], T]) -> T:
        """Begin a step: call `get` and count its time as waiting for data."""
        self._start = time.monotonic()
        value = get()
        self._sums.wait_seconds += time.monotonic() - self._start
        return value

    def after_step(self, num_images: int) -> None:
        """Count a step that is done."""
        self._sums.images += num_images
        self._sums.seconds += time.monotonic() - self._start


class PaceLine:
    """Logs now and then how fast an epoch goes and how much is left."""

    def __init__(self, *, num_batches: int, epochs: int) -> None:
        self._num_batches = num_batches
        self._epochs = epochs
        self._last_line = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last line is `LINE_EVERY_SECONDS` old."""
        return time.monotonic() - self._last_line >= LINE_EVERY_SECONDS

    def log(self, sums: Progress) -> None:
        """Log a line."""
        self._last_line = time.monotonic()
        batches_left = (self._epochs - sums.epoch) * self._num_batches - sums.batch
        logger.info(
            "epoch %d of %d, batch %d of %d: loss %.4f, %.0f img/s, data wait %.0f %%, %s left",
            sums.epoch + 1,
            self._epochs,
            sums.batch,
            self._num_batches,
            sums.loss_sum / sums.images,
            sums.images / sums.seconds,
            100 * sums.wait_seconds / sums.seconds,
            describe_duration(sums.seconds / sums.batch * batches_left),
        )


class Stopwatch:
    """The seconds since it was started; None as long as it was not."""

    def __init__(self) -> None:
        self._start: float | None = None

    def start(self) -> None:
        """Count from now on."""
        self._start = time.monotonic()

    def seconds(self) -> float | None:
        """Since the start."""
        return None if self._start is None else time.monotonic() - self._start


def for_a_while(items: Iterable[T], *, seconds: float) -> Iterator[T]:
    """The first items, until they have taken so long; one at least, if there is one."""
    start = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - start >= seconds:
            return


def describe_epoch(record: Mapping[str, Any], *, epochs: int) -> str:
    """An epoch's line of the history in words."""
    text = f"epoch {record['epoch']} of {epochs}: loss {record['train_loss']:.4f}, "
    text += f"{record['rate_img_s']:.0f} img/s, data wait {record['data_wait_share']:.0%}"
    if record["peak_gpu_bytes"] is not None:
        text += f", GPU memory {record['peak_gpu_bytes'] / 2**30:.1f} GiB"
    if record["val"] is not None:
        text += "; val " + ", ".join(f"{name} {value:.4g}" for name, value in record["val"].items())
    return text


def describe_duration(seconds: float) -> str:
    """`h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
