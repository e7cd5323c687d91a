"""What is in `.work`: what it is called, how far it is, and what may be removed."""

import os
import sys
import time
from pathlib import Path

import pytest

from stages.runtime.errors import LockHeldError, UserError
from stages.runtime.files import write_json
from stages.runtime.lock import run_lock
from stages.training.run import IDENTITY, LAST, PREVIOUS, STATUS, kept_files
from tools import clean
from tools.runs import Kept, find_kept, named, readable_size, remove_kept, table

FIRST, SECOND = "0123456789abcdef", "0123ffff00000000"
ASIDE = f"{FIRST}.old-20260131T235959Z"
COPY = "ab" * 32
CARD = "models/stageA/RN18/teacher.json"


def make_run(root: Path, fingerprint: str = FIRST, *, epoch: int | None = 3, batch=0) -> Path:
    """A run of four epochs; without status where `epoch` is None."""
    folder = root / ".work" / "stageA" / "RN18" / fingerprint
    folder.mkdir(parents=True)
    params = {"stageA": {"epochs": 4}}
    write_json(folder / IDENTITY, {"fingerprint": fingerprint + 48 * "0", "params": params})
    (folder / LAST).write_bytes(b"x" * 1000)
    if epoch is not None:
        status = {"epoch": epoch, "epochs": None, "batch": batch, "num_batches": 7, "step": 9}
        write_json(folder / STATUS, status)
    return folder


def make_copy(root: Path) -> Path:
    folder = root / ".work" / "standardize" / "toy" / COPY
    folder.mkdir(parents=True)
    (folder / "index.json").touch()
    return folder


def set_time(path: Path, *, days_ago: float) -> None:
    os.utime(path, (time.time() - days_ago * 86_400,) * 2)


def kept_in(root: Path) -> list[Kept]:
    return find_kept(root / ".work", models=root / "models")


def only(root: Path) -> Kept:
    (run,) = kept_in(root)
    return run


@pytest.mark.parametrize(
    ("epoch", "batch", "card", "state", "shown"),
    [
        (0, 0, "", "interrupted", "0 of 4"),
        (3, 6, FIRST, "interrupted", "3.8 of 4"),
        (4, 0, SECOND, "trained", "4 of 4"),
        (4, 0, FIRST, "finished", "4 of 4"),
        (4, 0, None, "trained", "4 of 4"),  # a broken card
        (None, 0, "", "interrupted", "unknown"),
        (None, 0, FIRST, "finished", "unknown"),
    ],
)
def test_a_run_is_finished_when_models_holds_what_it_made(
    tmp_path: Path, epoch: int | None, batch: int, card: str | None, state: str, shown: str
) -> None:
    folder = make_run(tmp_path, epoch=epoch, batch=batch)
    write_json(tmp_path / CARD, {"fingerprint": f"{card}{48 * '0'}"})
    if card is None:
        (tmp_path / CARD).write_text("{")
    assert (only(tmp_path).state, only(tmp_path).epoch) == (state, shown)
    # A checkpoint that is newer than the status hides the epoch.
    set_time(folder / LAST, days_ago=-0.01)
    assert (only(tmp_path).state, only(tmp_path).epoch) == (state, "unknown")
    # The age is that of the last write, whoever looks.
    with run_lock(folder):
        pass
    for path in set(folder.iterdir()) - {folder / ".run.lock"}:
        set_time(path, days_ago=3)
    assert only(tmp_path).age_days == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f".work/stageA/RN18/{FIRST}/", FIRST),
        (f".work\\stageA\\RN18\\{FIRST}", FIRST),
        ("stageA/RN18/0123f", SECOND),
        ("0123f", SECOND),
        (FIRST, FIRST),  # not the run that was set aside
        ("abab", COPY[:16]),
        ("0123", f"'0123' fits several: .*stageA/RN18/{FIRST}'"),
        *(
            (name, f"fits nothing in .work; known: .*stageA/RN18/{FIRST}")
            for name in ("", "/", "9", "stageA", "stageA/RN18", "stageB/RN18/0123", "..")
        ),
    ],
)
def test_a_run_is_meant_by_its_name_or_by_enough_of_it(
    tmp_path: Path, name: str, expected: str
) -> None:
    for fingerprint in (FIRST, ASIDE, SECOND):
        make_run(tmp_path, fingerprint)
    make_copy(tmp_path)
    for other in ("stageA/RN18/notes", f"queue/tasks/{COPY}", "standardize/a/b"):
        (tmp_path / ".work" / other).mkdir(parents=True)
    kept = kept_in(tmp_path)
    assert [run.fingerprint for run in kept] == [FIRST, ASIDE, SECOND, COPY[:16]]
    if " " in expected:
        with pytest.raises(UserError, match=expected):
            named(kept, names=[name])
    else:
        assert [run.fingerprint for run in named(kept, names=[name, name])] == [expected]


def test_incident_R3_a_run_in_use_is_refused_and_its_holder_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    held, free, copy = make_run(tmp_path), make_run(tmp_path, SECOND), make_copy(tmp_path)
    with run_lock(held), run_lock(tmp_path / ".work" / "standardize"):
        kept = kept_in(tmp_path)
        head, line, *_ = table(kept).splitlines()
        assert line.index(f"pid {os.getpid()} on ") == head.index("held by")
        assert [run.state for run in kept] == ["running", "interrupted", "running"]
        for run in (kept[0], kept[2]):
            with pytest.raises(LockHeldError, match=f"pid {os.getpid()} on "):
                remove_kept(run)
        assert clean.main(["--older-than", "0", "--dry-run"]) == 0
        assert free.exists()
        # However it is chosen; another that is chosen beside it goes.
        assert clean.main(["--older-than", "0"]) == 0
        assert clean.main([held.name]) == 3
    printed = capsys.readouterr()
    assert f"another run holds the lock: pid {os.getpid()} on " in printed.err
    assert f"kept stageA/RN18/{held.name}: " in printed.out
    assert (held / LAST).exists()
    assert not free.exists()
    # A run that came and went since the list was made is kept too.
    run = kept_in(tmp_path)[0]
    assert run.holder == ""
    set_time(held / LAST, days_ago=-0.01)
    with pytest.raises(LockHeldError, match="came and went"):
        remove_kept(run)
    assert clean.main([held.name, "abab"]) == 0
    assert not held.exists()
    assert not copy.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_nothing_behind_a_link_is_removed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "faces").touch()
    folder = make_run(tmp_path)
    (folder / "link").symlink_to(elsewhere)
    folder.with_name(SECOND).symlink_to(elsewhere)
    remove_kept(only(tmp_path))
    assert not folder.exists()
    assert (elsewhere / "faces").exists()


def test_a_removal_that_is_cut_short_leaves_a_run_that_goes_on_or_starts(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder / PREVIOUS).touch()
    (folder / "best-0001.safetensors").touch()
    order = [path.name for path in kept_files(folder)]
    assert order[:2] == [PREVIOUS, LAST]
    assert sorted(order) == sorted(path.name for path in folder.iterdir())


def test_what_is_half_written_is_removed_where_no_process_works_and_named_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    free, held = make_run(tmp_path), make_run(tmp_path, SECOND)
    inside = [f".work/stageA/RN18/{FIRST}/.best.tmp-0-1", f".work/standardize/toy/.{COPY}.tmp-0-1"]
    outside = [".manifests.tmp-0-1", "metrics/.a.json.tmp-0-1", "models/stageA/.RN18.tmp-0-1"]
    stay = [f".work/stageA/RN18/{SECOND}/.best.tmp-0-1", ".work/.notes.tmp-0-1", "raw/.a.tmp-0-1"]
    with run_lock(held):
        for path in map(Path, (*inside, *outside, *stay)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for options, verb in ((["--dry-run"], "would remove"), ([], "removed")):
            assert clean.main(options) == 0
            lines = [line for line in capsys.readouterr().out.splitlines() if "half-" in line]
            expected = [f"half-written, goes when its writer runs again: {n}" for n in outside]
            expected += [f"{verb} half-written {name}" for name in inside]
            assert sorted(lines) == sorted(expected)
            assert all(Path(name).exists() == (options != []) for name in inside)
            assert all(Path(name).exists() for name in [*outside, *stay, free / LAST])


def test_sizes_are_readable() -> None:
    sizes = {999: "999 B", 1000: "1.0 kB", 312_400_000: "312.4 MB", 2 * 10**9: "2.0 GB"}
    assert {num_bytes: readable_size(num_bytes) for num_bytes in sizes} == sizes
