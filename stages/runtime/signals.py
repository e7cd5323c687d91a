"""Stop signals as a question that a loop asks, so that it stops where its state is whole.

They are SIGINT, SIGTERM and, when a terminal is closed, SIGHUP; on Windows Ctrl-Break (SIGBREAK),
the only one there that can be sent to a group. Job schedulers warn of the end by SIGUSR1, SIGUSR2
or SIGXCPU.
"""

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


def _known(*names: str) -> tuple[signal.Signals, ...]:
    """Those that this system has."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


WARNINGS = _known("SIGUSR1", "SIGUSR2", "SIGXCPU")
STOP_SIGNALS = (*_known("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"), *WARNINGS)
_HANG_UP = _known("SIGHUP")


class StopRequest:
    """Which signal asked this process to stop first; 0 while none did."""

    def __init__(self) -> None:
        self.signal_number = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


def heeded() -> list[signal.Signals]:
    """The stop signals but a SIGHUP that is ignored, as `nohup` has it: that one stays ignored.

    Others that are ignored are heeded: a shell may keep a warning from what it starts in between.
    """
    return [
        number
        for number in STOP_SIGNALS
        if number not in _HANG_UP or signal.getsignal(number) != signal.SIG_IGN
    ]


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note the first stop signal; a second one acts as it would without this block.

    A warning may come again and again, as SIGXCPU does every second, and before the signal that it
    warns of: warnings are only noted, and are no first one.
    """
    request = StopRequest()
    previous = {number: signal.getsignal(number) for number in heeded()}

    def note(number: int, _frame: FrameType | None) -> None:
        request.signal_number = request.signal_number or number
        if number not in WARNINGS:
            _restore(set(previous) - set(WARNINGS))

    def _restore(numbers: Iterable[signal.Signals]) -> None:
        for number in numbers:
            signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, note)
    try:
        yield request
    finally:
        _restore(previous)


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
