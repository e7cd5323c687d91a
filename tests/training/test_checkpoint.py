"""A checkpoint is whole, holds plain values only, and has one before it."""

import errno
import logging
from datetime import datetime, timedelta
from pathlib import Path, PureWindowsPath

import pytest
import torch

from stages.runtime.files import read_json
from stages.training.checkpoint import load_checkpoint, remove_superseded, save_checkpoint
from stages.training.run import LAST, PREVIOUS, STATUS


def state(epoch: int) -> dict[str, object]:
    return {
        "weights": {"w": torch.full((3,), float(epoch))},
        "epoch": epoch,
        "history": [{"nll": 1.5}],
        "progress": {"epoch": epoch, "batch": 12, "step": 90 * epoch + 12, "loss_sum": 3.5},
    }


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert (loaded["epoch"], loaded["history"]) == (2, [{"nll": 1.5}])
    torch.testing.assert_close(loaded["weights"]["w"], torch.full((3,), 2.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == [LAST, PREVIOUS, STATUS]


def test_the_status_says_how_far_the_last_checkpoint_is(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1))
    status = read_json(tmp_path / STATUS)
    assert (status["epochs"], status["num_batches"]) == (None, None)
    save_checkpoint(tmp_path, state(2) | {"extent": {"epochs": 60, "num_batches": 90}})
    status = read_json(tmp_path / STATUS)
    time = datetime.fromisoformat(status.pop("time"))
    assert time.utcoffset() == timedelta(0)
    assert status == {"epoch": 2, "epochs": 60, "batch": 12, "num_batches": 90, "step": 192}


def test_a_status_is_never_ahead_of_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, state(1))

    def full_disk(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, state(2))
    assert read_json(tmp_path / STATUS)["epoch"] == 1


def test_reported_a_file_system_that_is_full_at_the_sync_takes_no_checkpoint_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(_file: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full_disk)
        with pytest.raises(OSError, match="quota"):
            save_checkpoint(tmp_path, state(3))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("keep_bytes", [0, 100, 900])
def test_incident_R5_a_truncated_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keep_bytes: int
) -> None:
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    last = tmp_path / LAST
    last.write_bytes(last.read_bytes()[:keep_bytes])
    with caplog.at_level(logging.WARNING):
        loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["epoch"] == 1
    assert "checkpoint_last.pt is unreadable" in caplog.text


def test_a_crash_between_the_two_moves_loses_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1))
    (tmp_path / LAST).rename(tmp_path / PREVIOUS)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["epoch"] == 1


def test_no_readable_checkpoint_is_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    (tmp_path / LAST).write_bytes(b"not a checkpoint")
    with pytest.raises(RuntimeError, match="no readable checkpoint"):
        load_checkpoint(tmp_path)


def test_incident_R9_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    torch.save({"path": PureWindowsPath("C:/faces")}, tmp_path / LAST)
    with pytest.raises(RuntimeError, match="no readable checkpoint"):
        load_checkpoint(tmp_path)


def test_best_weights_of_epochs_that_no_checkpoint_names_are_dropped_by_name(
    tmp_path: Path,
) -> None:
    for epoch in (1, 3, 5, 6, 7):
        (tmp_path / f"best-{epoch:04d}.safetensors").touch()
    best = {"file": "best-0005.safetensors", "before": "best-0003.safetensors"}
    remove_superseded(tmp_path, best=best)
    assert {path.name for path in tmp_path.iterdir()} == set(best.values())
