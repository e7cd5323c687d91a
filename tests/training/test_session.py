"""A whole run: what its preflight, a broken step and another machine do to it."""

import os
import shutil
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from stages import train
from stages.config import load_params
from stages.loading.sampler import EpochSampler
from stages.records.schema import targets_of
from stages.runtime.files import read_json
from stages.training import teacher
from stages.training.checkpoint import load_checkpoint
from stages.training.inputs import choose_rows
from tests.training.small_run import published, run_folder

Project = Callable[..., Path]
TEACHER = Path("models/stageA/RN18")


def test_incident_T4_a_plan_over_max_hours_is_refused_before_it_begins(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepared(machine__max_hours=1e-6)
    assert train.main(["stageA", "RN18"]) == 2
    assert "machine.max_hours: 1e-06 hours are allowed, the forecast is" in capsys.readouterr().err
    assert load_checkpoint(run_folder(folder)) is None


def test_a_preflight_with_workers_changes_no_bit_of_a_run_without_either(
    prepared: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_and_collect(**changes: Any) -> dict[str, Any]:
        folder = prepared(stageA__epochs=2, **changes)
        assert train.main(["stageA", "RN18"]) == 0
        return published(folder)

    monkeypatch.setattr("stages.training.preflight.MAX_SHARE", 0.3)
    with_both = train_and_collect(machine__workers=2)
    shutil.rmtree(".work")
    monkeypatch.setattr("stages.training.teacher.preflight", lambda *_, **__: {"forecast_s": 1.0})
    assert train_and_collect(machine__workers=0) == with_both


@pytest.fixture
def at_forward(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that lets something happen once, in the training forward of that number.

    The preflight of these small runs has the first one.
    """

    def arrange(number: int, event: Callable[[torch.nn.Module], object]) -> None:
        build, numbers = teacher.build_model, count(1)

        def hook(module: torch.nn.Module, _: object) -> None:
            if module.training and next(numbers) == number:
                event(module)

        def build_with_hook(*args: Any, **options: Any) -> torch.nn.Module:
            model = build(*args, **options)
            model.backbone.register_forward_pre_hook(hook)
            return model

        monkeypatch.setattr(teacher, "build_model", build_with_hook)

    return arrange


def poison(backbone: torch.nn.Module) -> None:
    with torch.no_grad():
        next(backbone.parameters()).fill_(float("nan"))


def test_a_non_finite_loss_names_its_faces_and_the_run_goes_on_from_its_checkpoint(
    prepared: Project, capsys: pytest.CaptureFixture[str], at_forward: Callable[..., None]
) -> None:
    folder = prepared()
    at_forward(1 + 13, poison)
    assert train.main(["stageA", "RN18"]) == 2
    run, message = run_folder(folder), capsys.readouterr().err
    assert "the loss of step 12 is nan at learning rate 0.00" in message
    assert "the checkpoint of step 9 is kept, and `dvc repro stageA@RN18` goes on" in message
    assert "Traceback" not in message
    state = load_checkpoint(run)
    assert state is not None
    assert state["progress"]["step"] == 9
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    written = read_json(run / "nonfinite.json")
    assert (written["step"], written["loss"], written["gradient_norm"]) == (12, "nan", None)
    assert all(id_ in message for id_ in written["ids"])
    stage_params = load_params().stageA
    rows = choose_rows(Path("manifests"), rows=stage_params.filter, key="stageA.filter").train
    sampler = EpochSampler(targets_of(rows), batch_size=stage_params.batch_size, seed=7)
    assert sampler.num_batches == 9
    assert written["ids"] == rows["id"].iloc[sampler.batches(1)[12 - 9]].tolist()


def test_another_precision_after_a_resume_is_warned_about_and_recorded(
    prepared: Project,
    at_forward: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = prepared(stageA__epochs=2)
    at_forward(1 + 5, lambda _: signal.raise_signal(signal.SIGTERM))
    assert train.main(["stageA", "RN18"]) == 128 + signal.SIGTERM
    prepared(stageA__epochs=2, machine__precision="bf16")
    assert train.main(["stageA", "RN18"]) == 0
    recorded = read_json(folder / TEACHER / "environment.json")
    assert recorded["dtype"] == "torch.float32"
    warned = "at step 5: dtype torch.float32 -> torch.bfloat16; bits and numbers may differ"
    assert warned in caplog.text
    (later,) = recorded["later_processes"]
    assert (later["step"], later["dtype"]) == (5, "torch.bfloat16")
    assert "device" not in later


def test_a_deterministic_run_is_allowed_only_what_is_and_says_so(prepared: Project) -> None:
    prepared(machine__deterministic=True, stageA__epochs=1, stageA__warmup_epochs=0)
    try:
        assert train.main(["stageA", "RN18"]) == 0
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
        del os.environ["CUBLAS_WORKSPACE_CONFIG"]
