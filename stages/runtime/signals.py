"""SIGINT and SIGTERM as a question that a loop asks, so that it stops where its state is whole.

On Windows Ctrl-Break (SIGBREAK) is one of them: it is the only one that can be sent to a group.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)


class StopRequest:
    """Which signal asked this process to stop; 0 while none did."""

    def __init__(self) -> None:
        self.signal_number = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note the first stop signal; a second one acts as it would without this block."""
    request = StopRequest()
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def note(number: int, _frame: FrameType | None) -> None:
        request.signal_number = number
        _restore()

    def _restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    for number in previous:
        signal.signal(number, note)
    try:
        yield request
    finally:
        _restore()


@contextmanager
def stop_signals_held_back() -> Iterator[None]:
    """This thread gets stop signals when the block ends; a process started in it never does.

    A child inherits what is held back, and so is safe before its first line of Python runs. Windows
    cannot hold signals back: there the block changes nothing.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_stop_signals() -> None:
    """Let no stop signal end this process."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
