"""A checkpoint is whole and has one before it; a disk without room takes nothing away."""

import errno
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stages import train
from stages.runtime.errors import UserError
from stages.runtime.files import read_json
from stages.training import teacher
from stages.training.checkpoint import load_checkpoint, require_room, save_checkpoint
from stages.training.loop import Loop
from stages.training.progress import Progress
from stages.training.run import LAST, PREVIOUS, STATUS
from tests.training.small_loop import EPOCHS, assert_same, build_loop, final_state, fit, fly
from tests.training.small_run import record_steps

# A file that may not grow fails as on a full disk, in whatever writes it.
posix = pytest.mark.skipif(sys.platform == "win32", reason="files there may grow")
SMALL = 2000


def save_epochs(folder: Path, *epochs: int) -> None:
    for epoch in epochs:
        state = {
            "weights": {"w": torch.full((3,), float(epoch))},
            "progress": {"epoch": epoch, "batch": 12, "step": 90 * epoch + 12},
            "extent": {"epochs": 60, "num_batches": 90},
        }
        save_checkpoint(folder, state)


def test_what_is_saved_comes_back_and_the_status_says_how_far_it_is(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    save_epochs(tmp_path, 1, 2)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["weights"]["w"].tolist() == [2.0] * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == [LAST, PREVIOUS, STATUS]
    status = read_json(tmp_path / STATUS)
    assert datetime.fromisoformat(status.pop("time")).utcoffset() == timedelta(0)
    assert status == {"epoch": 2, "epochs": 60, "batch": 12, "num_batches": 90, "step": 192}


@pytest.mark.parametrize("full", ["torch.save", "os.fsync"])
def test_reported_a_file_system_that_is_full_at_the_sync_takes_no_checkpoint_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    save_epochs(tmp_path, 1, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(full, full_disk)
    with pytest.raises(OSError, match="quota"):
        save_epochs(tmp_path, 3)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("keep_bytes", [0, 100, 900])
def test_incident_R5_a_truncated_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keep_bytes: int
) -> None:
    save_epochs(tmp_path, 1, 2)
    last = tmp_path / LAST
    last.write_bytes(last.read_bytes()[:keep_bytes])
    with caplog.at_level(logging.WARNING):
        loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["progress"]["epoch"] == 1
    assert "checkpoint_last.pt is unreadable" in caplog.text
    (tmp_path / PREVIOUS).unlink()
    with pytest.raises(RuntimeError, match="no readable checkpoint"):
        load_checkpoint(tmp_path)


def test_incident_R9_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    torch.save({"path": PureWindowsPath("C:/faces")}, tmp_path / LAST)
    with pytest.raises(RuntimeError, match="no readable checkpoint"):
        load_checkpoint(tmp_path)


@contextmanager
def no_room() -> Iterator[Callable[[], None]]:
    """No file may be larger than `SMALL` bytes until the yielded function is called."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def lift() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, before[1]))
    try:
        yield lift
    finally:
        lift()


def after_one_epoch(folder: Path) -> Loop:
    """The small run, whose first epoch is learnt and saved."""
    loop = build_loop(folder)
    fit(replace(loop, epochs=1))
    return build_loop(folder)


@posix
def test_reported_a_save_without_room_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(build_loop(tmp_path / "undisturbed"))
    loop, waited = after_one_epoch(tmp_path / "run"), []
    with no_room() as lift:
        monkeypatch.setattr("time.sleep", lambda s: (waited.append(s), s == 30 and lift()))
        fit(loop)
    assert waited == [5.0, 30.0]
    assert_same(final_state(tmp_path / "run"), final_state(tmp_path / "undisturbed"))


@posix
def test_reported_a_full_disk_ends_in_words_with_all_that_was_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    # The next that is written is a checkpoint, as no epoch but the last is evaluated.
    loop = replace(after_one_epoch(tmp_path), eval_every=EPOCHS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with no_room(), pytest.raises(UserError) as said:
        fit(loop)
    message = str(said.value)
    assert "File too large: 0 MB needed, " in message
    assert " MB free; tried 3 times; the checkpoint of step 3 is kept; make room" in message
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert fit(build_loop(tmp_path)).epoch == EPOCHS


@posix
def test_reported_a_publication_without_room_keeps_the_run_that_is_done(
    rare: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = rare(stageA__epochs=2, stageA__arcface__ramp_end_epoch=1)
    save = teacher.save_teacher

    def save_without_room(*args: Any) -> object:
        with no_room():
            return save(*args)

    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", lambda _: None)
        patch.setattr(teacher, "save_teacher", save_without_room)
        assert train.main(["stageA", "RN18"]) == 2
    message = capsys.readouterr().err
    assert "models/stageA/RN18: File too large: " in message
    assert "the run is done and kept in .work/stageA/RN18/" in message
    assert not list((folder / "models" / "stageA").iterdir())
    record_steps(monkeypatch, after={0: pytest.fail})
    assert train.main(["stageA", "RN18"]) == 0


@pytest.mark.parametrize("full", ["run", "models"])
def test_reported_room_is_asked_for_before_the_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    for name in ("run", "models"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)

    def disk_usage(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=100 if folder.name == full else 10**12)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    expected = rf"{full}: .*MB needed, 0 MB free.*there is no checkpoint yet"
    with pytest.raises(UserError, match=expected):
        fly(build_loop(tmp_path / "run"), Progress())
    assert not list((tmp_path / "run").iterdir())


def test_what_a_run_holds_already_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"checkpoint_bytes": 400, "weights_bytes": 100, "table_bytes": 10}
    ask = partial(require_room, tmp_path, models=tmp_path / "no" / "models", **sizes)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="two checkpoints of 0 MB"):
        ask()
    (tmp_path / LAST).write_bytes(bytes(500))
    ask()


def test_the_room_of_a_checkpoint_is_what_it_takes(tmp_path: Path) -> None:
    loop = build_loop(tmp_path)
    first = loop.step.state_bytes()
    fit(loop)
    written = (tmp_path / LAST).stat().st_size
    # Two moments of AdamW have come; the file has names and its format beside.
    assert first + 1.9 * loop.step.weights_bytes() < loop.step.state_bytes() <= written
