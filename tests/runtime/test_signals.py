"""Stop signals are noted, held back, and ignored; the processes and the signals are real."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.runtime.signals import (
    STOP_SIGNALS,
    WARNINGS,
    heeded,
    stop_on_signals,
    stop_signals_held_back,
)

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends no signals to itself")
CHILD = "import time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
def handle() -> Iterator[Callable[..., list[int]]]:
    """A function that handles a signal until the test ends, and returns the signals heard."""
    before: dict[signal.Signals, Any] = {}

    def install(number: signal.Signals, handler: Any = None) -> list[int]:
        heard: list[int] = []
        note = handler or (lambda received, _frame: heard.append(received))
        before[number] = signal.signal(number, note)
        return heard

    yield install
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [n for n in STOP_SIGNALS if n not in WARNINGS])
def test_a_signal_is_noted_and_a_second_one_acts(number: signal.Signals, handle) -> None:
    heard = handle(number)
    with stop_on_signals() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert (stop.signal_number, heard) == (number, [])
        os.kill(os.getpid(), number)
        assert heard == [number]


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_reported_a_schedulers_warning_is_noted_however_often_it_comes(name: str, handle) -> None:
    number = signal.Signals[name]
    heard = handle(number)
    with stop_on_signals() as stop:
        for _ in range(3):
            os.kill(os.getpid(), number)
        assert (stop.signal_number, heard) == (number, [])
    os.kill(os.getpid(), number)
    assert heard == [number]


def test_reported_the_end_that_was_warned_of_is_noted_too_and_its_repeat_acts(handle) -> None:
    heard = handle(signal.SIGTERM)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.signal_number, heard) == (signal.SIGUSR1, [])
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGUSR1)  # would end the process


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGHUP"])
def test_an_ignored_warning_is_heeded_and_a_hang_up_that_nohup_ignores_is_not(name, handle) -> None:
    number = signal.Signals[name]
    handle(number, signal.SIG_IGN)
    assert (number in heeded()) == (name == "SIGUSR1")
    with stop_on_signals() as stop:
        os.kill(os.getpid(), number)
        assert bool(stop) == (name == "SIGUSR1")
    assert signal.getsignal(number) == signal.SIG_IGN


def test_signals_are_held_back_until_the_block_ends_or_as_long_as_they_were_before() -> None:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    with stop_on_signals() as stop:
        with stop_signals_held_back():
            with stop_signals_held_back():
                pass
            # To this thread: another one, as libraries start them, would take it at once.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert not stop
        assert stop.signal_number == signal.SIGTERM
    assert {number: signal.getsignal(number) for number in STOP_SIGNALS} == before


def test_a_process_started_while_signals_are_held_back_never_gets_one() -> None:
    with stop_signals_held_back():
        child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
    with child:
        for number in STOP_SIGNALS:
            child.send_signal(number)
        # It lives on to start, and only what cannot be held back ends it.
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert child.poll() is None
        child.kill()
    assert child.returncode == -signal.SIGKILL
