"""A disk without room: asked for before the night; else said, with all that was good kept."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages import train
from stages.runtime.errors import UserError
from stages.runtime.files import read_json
from stages.training import checkpoint, teacher
from stages.training.loop import Loop
from stages.training.progress import Progress
from tests.training.small_loop import EPOCHS, assert_same, build_loop, final_state, fit, fly

# A file that may not grow fails as on a full disk, in whatever writes it.
posix = pytest.mark.skipif(sys.platform == "win32", reason="files there may grow")
SMALL = 2000


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
    fit(replace(loop, plan=replace(loop.plan, epochs=1)))
    return build_loop(folder)


@posix
@pytest.mark.parametrize("fails", [1, 2])
def test_reported_a_save_without_room_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    fit(build_loop(tmp_path / "undisturbed"))
    loop, waited = after_one_epoch(tmp_path / "run"), []
    with no_room() as lift:
        monkeypatch.setattr(
            "time.sleep", lambda s: (waited.append(s), len(waited) == fails and lift())
        )
        fit(loop)
    assert waited == [5.0, 30.0][:fails]
    assert_same(final_state(tmp_path / "run"), final_state(tmp_path / "undisturbed"))


@posix
@pytest.mark.parametrize("lost", ["best weights", "checkpoint"])
def test_reported_a_full_disk_ends_in_words_with_all_that_was_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    loop = after_one_epoch(tmp_path)
    if lost == "checkpoint":
        loop = replace(loop, plan=replace(loop.plan, eval_every=EPOCHS))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with no_room(), pytest.raises(UserError) as said:
        fit(loop)
    message = str(said.value)
    assert "File too large: 0 MB needed, " in message
    assert " MB free; tried 3 times; the checkpoint of step 3 is kept; make room" in message
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert fit(build_loop(tmp_path)).epoch == EPOCHS


@posix
def test_reported_a_publication_without_room_leaves_the_one_before_and_the_run(
    rare: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = rare(stageA__epochs=2, stageA__arcface__ramp_end_epoch=1)
    published = folder / "models" / "stageA" / "RN18"
    assert train.main(["stageA", "RN18"]) == 0
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    rare(stageA__epochs=1, stageA__warmup_epochs=0)
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
    assert "Traceback" not in message
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before
    assert not list(published.parent.glob(".*"))
    with caplog.at_level("INFO"):
        assert train.main(["stageA", "RN18"]) == 0
    assert "nothing to train" in caplog.text
    assert len(read_json(published / "history.json")) == 1


@pytest.mark.parametrize("full", ["run", "models"])
def test_reported_room_is_asked_for_before_the_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda folder: SimpleNamespace(free=100 if folder.name == full else 10**12),
    )
    expected = rf"{full}: .*MB needed, 0 MB free.*there is no checkpoint yet"
    with pytest.raises(UserError, match=expected):
        fly(build_loop(run), Progress())
    assert list(run.iterdir()) == []


def test_what_a_run_holds_already_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = partial(
        checkpoint.require_room,
        tmp_path,
        models=tmp_path / "no" / "models",
        checkpoint_bytes=400,
        weights_bytes=100,
        table_bytes=10,
        kept=lambda: "the checkpoint of step 7 is kept",
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="the checkpoint of step 7 is kept; make room"):
        ask()
    (tmp_path / "checkpoint_last.pt").write_bytes(bytes(500))
    ask()


def test_the_room_of_a_checkpoint_is_what_it_takes(tmp_path: Path) -> None:
    loop = build_loop(tmp_path)
    first = loop.step.state_bytes()
    fit(loop)
    weights = loop.step.weights_bytes()
    written = (tmp_path / "checkpoint_last.pt").stat().st_size
    # Two moments of AdamW have come; the file has names and its format beside.
    assert first + 1.9 * weights < loop.step.state_bytes() <= written
