"""One writer per folder, named to whoever comes second; no lock outlives its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.runtime.errors import LockHeldError
from stages.runtime.lock import run_lock

HOLD = "import sys; from pathlib import Path; from stages.runtime.lock import run_lock\n"
HOLD += "with run_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_incident_R4_a_second_run_is_refused_and_told_who_holds(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        with pytest.raises(LockHeldError, match=f"pid {holder.pid} on "), run_lock(tmp_path):
            pass
        # The refused run must not have touched the holder's record.
        with pytest.raises(LockHeldError, match=f"pid {holder.pid} on "), run_lock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()


def test_incident_R5_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    holder.kill()
    holder.wait()
    with run_lock(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / "holder.json").read_text(encoding="utf-8")
