"""How far a long loop is: a bar on a terminal, else a line in the log now and then."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

LINE_EVERY_SECONDS = 30.0

logger = logging.getLogger(__name__)
T = TypeVar("T")


def with_progress(rows: Iterable[T], *, name: str) -> Iterator[T]:
    """Yield the rows and say how many are done, and at which rate."""
    if sys.stderr.isatty():
        yield from tqdm(rows, desc=name, unit=" rows", leave=False)
        return
    start = last_line = time.monotonic()
    for number, row in enumerate(rows, start=1):
        yield row
        now = time.monotonic()
        if now - last_line >= LINE_EVERY_SECONDS:
            last_line = now
            logger.info(
                "%s: %s rows, %s rows/s", name, f"{number:,}", f"{number / (now - start):,.0f}"
            )
