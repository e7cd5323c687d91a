"""Processes that work for this one: no stop signal ends them, the end of this one does."""

import multiprocessing
import os
import sys
import threading
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess

from stages.runtime.signals import ignore_stop_signals, stop_signals_held_back


class Worker(SpawnProcess):
    """A process that no stop signal ends, at any moment, and that ends when its parent does."""

    def start(self) -> None:
        """Start it; no stop signal reaches it before it can ignore them."""
        with stop_signals_held_back():
            super().start()

    def run(self) -> None:
        """Do its work, and end with its parent."""
        # torch looks for a change of the parent's pid, and so never ends a worker whose parent died
        # before it looked first: importing torch takes seconds.
        threading.Thread(target=_end_with_parent, daemon=True).start()
        # For Windows, which holds nothing back.
        ignore_stop_signals()
        super().run()

    def terminate(self) -> None:
        """Kill it: it ignores SIGTERM."""
        self.kill()


class WorkerContext(SpawnContext):
    """Starts workers."""

    Process = Worker

    def __init__(self) -> None:
        super().__init__()
        if sys.platform != "win32":
            # Python starts a process that counts semaphores. By itself that one ignores SIGINT and
            # SIGTERM only, and its death is a traceback.
            with stop_signals_held_back():
                resource_tracker.ensure_running()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
