"""Stop signals -> a request that a loop looks at, so that it stops where its state is whole.

Stop signals are SIGINT, SIGTERM, SIGHUP (a terminal was closed), on Windows SIGBREAK (Ctrl-Break,
the only signal there that can be sent to a group), and the warnings of job schedulers that the end
is near: SIGUSR1, SIGUSR2, SIGXCPU.
"""

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


def _known(*names: str) -> tuple[signal.Signals, ...]:
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


WARNINGS = _known("SIGUSR1", "SIGUSR2", "SIGXCPU")
STOP_SIGNALS = (*_known("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"), *WARNINGS)


class StopRequest:
    """The first signal that asked this process to stop; 0 before."""

    signal_number = 0


def heeded() -> list[signal.Signals]:
    """Return the stop signals to react to: all but a SIGHUP that is ignored, as under `nohup`.

    A shell between a scheduler and this process may ignore a warning, which still counts.
    """
    return [n for n in STOP_SIGNALS if n.name != "SIGHUP" or signal.getsignal(n) != signal.SIG_IGN]


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note the first stop signal; a second one acts as it would without this block.

    Warnings are only noted and do not count as the first signal: they may come again and again, as
    SIGXCPU does every second, and they come before the signal that they warn of.
    """
    request = StopRequest()
    previous = {number: signal.getsignal(number) for number in heeded()}

    def note(number: int, _frame: FrameType | None) -> None:
        request.signal_number = request.signal_number or number
        if number not in WARNINGS:
            restore(set(previous) - set(WARNINGS))

    def restore(numbers: Iterable[signal.Signals]) -> None:
        for number in numbers:
            signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore(previous)


@contextmanager
def stop_signals_held_back() -> Iterator[None]:
    """Hold stop signals back until the block ends; a process started in it never gets them.

    A child inherits the mask, and so is safe before its first line of Python runs.
    """
    # Windows cannot hold signals back.
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
