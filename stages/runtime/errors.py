"""The errors that a door turns into an exit code instead of a traceback."""

from pathlib import Path


class UserError(ValueError):
    """The user's params, data or files are wrong; the message says where and what to mend."""

    exit_code = 2


class LockHeldError(RuntimeError):
    """Another process works in the same folder."""

    exit_code = 3

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(f"{folder.name}: another run holds the lock: {holder}")


class InterruptedRunError(RuntimeError):
    """A stop signal arrived and the state was saved; `signal_number` makes the exit code."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}; state saved, run again to go on")
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


class LostProcessError(RuntimeError):
    """Another process of the run has ended."""

    exit_code = 1


def exit_code(error: BaseException) -> int:
    """What the error makes a process end with; 1 is a bug."""
    return int(getattr(error, "exit_code", 1))
