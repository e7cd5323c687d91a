"""The errors that a door turns into an exit code instead of a traceback."""

from pathlib import Path


class UserError(ValueError):
    """The user's params, data or files are wrong; the message says where and what to mend."""


class LockHeldError(RuntimeError):
    """Another process works in the same folder."""

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(f"{folder.name}: another run holds the lock: {holder}")


class InterruptedRunError(RuntimeError):
    """SIGINT or SIGTERM arrived and the state was saved; `signal_number` makes the exit code."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}; state saved, run again to go on")
        self.signal_number = signal_number
