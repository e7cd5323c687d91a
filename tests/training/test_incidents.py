"""Incidents of whole runs: what happened, done to a run again, and what comes of it now."""

import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from stages import train
from stages.runtime.errors import InterruptedRunError
from stages.runtime.files import read_json, sha256_file
from stages.training.checkpoint import load_checkpoint
from stages.training.loop import CosineSchedule, Loop
from stages.training.run import LAST
from tests.training.small_loop import EPOCHS, build_loop, final_state, fit, still
from tests.training.small_run import STEPS, published, record_steps

Project = Callable[..., Path]


class KilledError(BaseException):
    """The process is gone: no `except Exception` sees it."""


def test_incident_T1_a_run_shows_every_row_in_every_epoch_and_never_twice_in_one_order(
    rare: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rare()
    steps = record_steps(monkeypatch)
    assert train.main(["stageA", "RN18"]) == 0
    manifest = pd.read_csv(folder / "manifests" / "classification_manifest.csv")
    num_rows = int((manifest["split"] == "train").sum())
    rows = [row for number in range(STEPS) for row in steps[number][1]]
    epochs = np.split(np.array(rows), 4)
    assert [set(epoch) for epoch in epochs] == [set(range(num_rows))] * 4
    assert len({tuple(epoch) for epoch in epochs}) == 4
    history = read_json(folder / "models/stageA/RN18/history.json")
    assert [record["rows_seen_share"] for record in history] == [1.0] * 4


@pytest.mark.parametrize("accumulate", [2, 3, 5])
def test_incident_T5_the_logged_loss_is_that_of_an_image_however_much_is_accumulated(
    tmp_path: Path, accumulate: int
) -> None:
    def losses(folder: Path, *, accumulate: int) -> list[float]:
        loop = build_loop(folder, accumulate=accumulate)
        # Nothing is learnt, dropped or made harder: only how batches are grouped differs.
        flat = CosineSchedule(peak=0.0, floor=0.0, warmup_steps=0, total_steps=99)
        plan = replace(loop.plan, schedule=flat, margin_at=lambda _: 0.1)
        still(loop.step.model)
        return [record["train_loss"] for record in fit(replace(loop, plan=plan)).history]

    one_by_one = losses(tmp_path / "1", accumulate=1)
    assert losses(tmp_path / "n", accumulate=accumulate) == pytest.approx(one_by_one, rel=1e-5)


def test_incident_R2_a_run_that_is_killed_at_any_write_ends_with_the_same_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = fit(peaking_in_epoch_2(tmp_path / "whole", tmp_path=tmp_path)).best
    assert undisturbed["epoch"] == 2 < EPOCHS
    for death in count(1):
        folder = tmp_path / str(death)
        with monkeypatch.context() as patch:
            die_at_move(patch, number=death)
            try:
                fit(peaking_in_epoch_2(folder, tmp_path=tmp_path))
                break
            except KilledError:
                pass
        best = fit(peaking_in_epoch_2(folder, tmp_path=tmp_path)).best
        assert {**best, "before": ""} == {**undisturbed, "before": ""}
        assert sha256_file(folder / best["file"]) == undisturbed["sha256"]
    # Two best weights, and a checkpoint with its status in each epoch.
    assert death > 2 + 2 * EPOCHS


def test_incident_R8_a_run_stopped_anywhere_publishes_the_same_bytes(
    rare: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rare(teachers__RN18__dropout=0.2)
    assert train.main(["stageA", "RN18"]) == 0
    whole = published(folder)
    (folder / ".work" / "stageA").rename(folder / "undisturbed")
    for step in (0, 4, 12, 19):
        with monkeypatch.context() as patch:
            record_steps(patch, after={step: lambda: signal.raise_signal(signal.SIGTERM)})
            assert train.main(["stageA", "RN18"]) == 128 + signal.SIGTERM
        # A worker makes the same batches.
        rare(teachers__RN18__dropout=0.2, machine__workers=1 if step == 4 else 0)
    assert train.main(["stageA", "RN18"]) == 0
    assert published(folder) == whole


def test_incident_R9_a_checkpoint_in_mid_epoch_holds_tensors_numbers_and_strings_only(
    tmp_path: Path,
) -> None:
    with pytest.raises(InterruptedRunError):
        fit(build_loop(tmp_path, stop_after=7))
    # Whatever it holds, as pickle made it; `load_checkpoint` would refuse all else.
    state = torch.load(tmp_path / LAST, weights_only=False)
    assert kinds_in(state) <= {torch.Tensor, int, float, bool, str, type(None)}
    assert load_checkpoint(tmp_path) is not None
    assert final_state(tmp_path)["progress"]["batch"] > 0


def peaking_in_epoch_2(folder: Path, *, tmp_path: Path) -> Loop:
    """The small run, scored by how near its weights are to those that it has after two epochs."""
    probe = tmp_path / "probe"
    if not probe.exists():
        fit(build_loop(probe))
    wanted = final_state(probe)["progress"]["history"][1]["val"]["nll"]
    loop = build_loop(folder)
    score = loop.evaluate

    def nearness(model: nn.Module) -> dict[str, float]:
        scores = score(model)
        return scores | {"macro_f1": -abs(scores["nll"] - wanted)}

    return replace(loop, evaluate=nearness)


def die_at_move(patch: pytest.MonkeyPatch, *, number: int) -> None:
    """Let the process be killed where it would move its `number`-th file into place."""
    move, numbers = Path.replace, count(1)

    def die(source: Path, target: Path) -> Path:
        if next(numbers) >= number:
            raise KilledError
        return move(source, target)

    patch.setattr(Path, "replace", die)


def kinds_in(value: Any) -> set[type]:
    """The types of all that a state holds; those of its containers are checked."""
    if type(value) in (dict, list, tuple) or type(value).__name__ == "OrderedDict":
        parts = [*value.keys(), *value.values()] if hasattr(value, "keys") else value
        return set().union(*map(kinds_in, parts))
    return {type(value)}
