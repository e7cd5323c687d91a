"""Stop signals as a question that a loop asks, so that it stops where its state is whole.

They are SIGINT, SIGTERM and, when a terminal is closed, SIGHUP; on Windows Ctrl-Break (SIGBREAK),
the only one there that can be sent to a group.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
_HANG_UP = getattr(signal, "SIGHUP", None)


class StopRequest:
    """Which signal asked this process to stop; 0 while none did."""

    def __init__(self) -> None:
        self.signal_number = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note the first stop signal; a second one acts as it would without this block.

    A SIGHUP that is ignored, as `nohup` has it, stays ignored.
    """
    request = StopRequest()
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    if previous.get(_HANG_UP) == signal.SIG_IGN:
        del previous[_HANG_UP]

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
