"""Stop signals as questions, held back, and ignored; the processes and the signals are real."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stages.runtime.signals import (
    STOP_SIGNALS,
    WARNINGS,
    heeded,
    stop_on_signals,
    stop_signals_held_back,
)

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals to itself")
CHILD = "import time; print('up', flush=True); time.sleep(60)"


@posix
@pytest.mark.parametrize("number", [n for n in STOP_SIGNALS if n not in WARNINGS])
def test_a_signal_is_noted_and_a_second_one_acts(number: int) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda received, _frame: heard.append(received))
    try:
        with stop_on_signals() as stop:
            assert not stop
            os.kill(os.getpid(), number)
            assert stop
            assert (stop.signal_number, heard) == (number, [])
            os.kill(os.getpid(), number)
            assert heard == [number]
    finally:
        signal.signal(number, before)


@posix
@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_reported_a_schedulers_warning_is_noted_however_often_it_comes(name: str) -> None:
    number, heard = signal.Signals[name], []
    before = signal.signal(number, lambda received, _frame: heard.append(received))
    try:
        with stop_on_signals() as stop:
            for _ in range(3):
                os.kill(os.getpid(), number)
            assert (stop.signal_number, heard) == (number, [])
        os.kill(os.getpid(), number)
        assert heard == [number]
    finally:
        signal.signal(number, before)


@posix
def test_reported_the_end_that_was_warned_of_is_noted_too_and_its_repeat_acts() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda received, _frame: heard.append(received))
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)
            assert (stop.signal_number, heard) == (signal.SIGUSR1, [])
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == [signal.SIGTERM]
            os.kill(os.getpid(), signal.SIGUSR1)  # would end the process
    finally:
        signal.signal(signal.SIGTERM, before)


@posix
def test_a_warning_that_a_shell_has_ignored_is_heeded() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        assert signal.SIGUSR1 in heeded()
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop.signal_number == signal.SIGUSR1
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


@posix
def test_a_hang_up_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@posix
def test_what_was_in_force_before_a_block_is_in_force_after_it() -> None:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    with stop_on_signals():
        noted = [number for number in before if before[number] != signal.SIG_IGN]
        assert all(signal.getsignal(number) != before[number] for number in noted)
    assert {number: signal.getsignal(number) for number in STOP_SIGNALS} == before


@posix
def test_a_signal_that_is_held_back_arrives_when_the_block_ends() -> None:
    with stop_on_signals() as stop:
        with stop_signals_held_back():
            # To this thread: another one, as libraries start them, would take it at once.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert not stop
        assert stop.signal_number == signal.SIGTERM


@posix
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


@posix
def test_signals_that_were_held_back_before_stay_so() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with stop_signals_held_back():
            pass
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == {signal.SIGTERM}
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def test_no_stop_signal_ends_a_process_that_ignores_them() -> None:
    code = (
        "import signal; from stages.runtime.signals import *; ignore_stop_signals()\n"
        "for number in STOP_SIGNALS: signal.raise_signal(number)\n"
        "print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "alive\n")
