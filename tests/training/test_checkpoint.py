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


def save_epochs(folder: Path, *epochs: int) -> None:
    for epoch in epochs:
        state = {
            "weights": {"w": torch.full((3,), float(epoch))},
            "history": [{"nll": 1.5}],
            "progress": {"epoch": epoch, "batch": 12, "step": 90 * epoch + 12, "loss_sum": 3.5},
            "extent": {"epochs": 60, "num_batches": 90},
        }
        save_checkpoint(folder, state)


def loaded_epoch(folder: Path) -> int:
    state = load_checkpoint(folder)
    assert state is not None
    return int(state["progress"]["epoch"])


def test_what_is_saved_comes_back_and_the_status_says_how_far_it_is(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    save_epochs(tmp_path, 1, 2)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["history"] == [{"nll": 1.5}]
    torch.testing.assert_close(loaded["weights"]["w"], torch.full((3,), 2.0))
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
        assert loaded_epoch(tmp_path) == 1
    assert "checkpoint_last.pt is unreadable" in caplog.text
    (tmp_path / PREVIOUS).unlink()
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
