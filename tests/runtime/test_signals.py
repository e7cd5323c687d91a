"""Stop signals are noted, held back, and ignored; the processes and the signals are real."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from stages.runtime.signals import STOP_SIGNALS, WARNINGS, stop_on_signals, stop_signals_held_back

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends no signals to itself")
CHILD = "import time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """The stop signals that reach the handlers from before a block."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: received.append(number))
        for number in STOP_SIGNALS
    }
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("sent", "acts"),
    [
        *(([number, number], [number]) for number in STOP_SIGNALS if number not in WARNINGS),
        *(
            pytest.param([number] * 3, [], id=f"test_reported_a_schedulers_warning_is_noted_however_often_it_comes-{number.name}")
            for number in WARNINGS
        ),
        pytest.param(
            [signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1], [signal.SIGTERM],
            id="test_reported_the_end_that_was_warned_of_is_noted_too_and_its_repeat_acts",
        ),
    ],
)  # fmt: skip
def test_a_signal_is_noted_and_a_second_one_acts(sent, acts, heard: list[int]) -> None:
    with stop_on_signals() as stop:
        assert not stop.signal_number
        for number in sent:
            os.kill(os.getpid(), number)
        assert (stop.signal_number, heard) == (sent[0], acts)
    os.kill(os.getpid(), sent[0])
    assert heard == [*acts, sent[0]]


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGHUP"])
def test_an_ignored_warning_is_heeded_and_a_hang_up_that_nohup_ignores_is_not(name, heard) -> None:
    number = signal.Signals[name]
    signal.signal(number, signal.SIG_IGN)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), number)
        assert (stop.signal_number == number) == (name == "SIGUSR1")
    assert signal.getsignal(number) == signal.SIG_IGN


def test_signals_are_held_back_until_the_block_ends_or_as_long_as_they_were_before() -> None:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    with stop_on_signals() as stop:
        with stop_signals_held_back():
            with stop_signals_held_back():
                pass
            # To this thread: another one, as libraries start them, would take it at once.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert not stop.signal_number
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
