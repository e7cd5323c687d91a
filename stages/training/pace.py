"""How fast a run goes, what share of it waits for data, and when it will be done."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from stages.training.progress import Progress

LINE_EVERY_SECONDS = 20.0

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Pace:
    """Adds up images, seconds and waiting, and logs a line now and then."""

    def __init__(self, sums: Progress, *, num_batches: int, epochs: int) -> None:
        self._sums = sums
        self._num_batches = num_batches
        self._epochs = epochs
        self._mark = self._last_line = time.monotonic()

    def fetch(self, get: Callable[[], T]) -> T:
        """Call `get` and count its time as waiting for data."""
        start = time.monotonic()
        value = get()
        self._sums.wait_seconds += time.monotonic() - start
        return value

    def after_step(self, num_images: int) -> None:
        """Count a step that is done."""
        now = time.monotonic()
        self._sums.images += num_images
        self._sums.seconds += now - self._mark
        self._mark = now
        if now - self._last_line >= LINE_EVERY_SECONDS:
            self._last_line = now
            self._log()

    def _log(self) -> None:
        sums = self._sums
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
            _duration(sums.seconds / sums.batch * batches_left),
        )


def describe_epoch(record: Mapping[str, Any], *, epochs: int) -> str:
    """An epoch's line of the history in words."""
    text = f"epoch {record['epoch']} of {epochs}: loss {record['train_loss']:.4f}, "
    text += f"{record['rate_img_s']:.0f} img/s, data wait {record['data_wait_share']:.0%}"
    if record["val"] is not None:
        text += "; val " + ", ".join(f"{name} {value:.4g}" for name, value in record["val"].items())
    return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
