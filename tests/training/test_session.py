"""A whole run: stopped, resumed, broken by a step, and made reproducible."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shipped import shipped

from stages import train
from stages.config import TeacherParams, load_params
from stages.loading.loader import EvalLoader
from stages.loading.sampler import EpochSampler
from stages.records.schema import targets_of
from stages.runtime.errors import UserError
from stages.runtime.files import read_json
from stages.training import teacher
from stages.training.checkpoint import load_checkpoint
from stages.training.inputs import choose_rows
from stages.training.step import TrainingStep
from tests.training.small_loop import session
from tests.training.small_run import published, record_steps, run_folder

Project = Callable[..., Path]


def stop(_: TrainingStep) -> None:
    signal.raise_signal(signal.SIGTERM)


def poison(step: TrainingStep) -> None:
    with torch.no_grad():
        next(step.model.parameters()).fill_(float("nan"))


def test_incident_R8_a_run_stopped_anywhere_publishes_the_same_bytes(
    rare: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rare(teachers__RN18__dropout=0.2)
    assert train.main(["stageA", "RN18"]) == 0
    whole = published(folder)
    (folder / ".work" / "stageA").rename(folder / "undisturbed")
    for step in (0, 4, 12, 19):
        with monkeypatch.context() as patch:
            record_steps(patch, after={step: stop})
            assert train.main(["stageA", "RN18"]) == 128 + signal.SIGTERM
        # A worker makes the same batches.
        rare(teachers__RN18__dropout=0.2, machine__workers=1 if step == 4 else 0)
    assert train.main(["stageA", "RN18"]) == 0
    assert published(folder) == whole


def test_a_non_finite_loss_names_its_faces_and_the_run_goes_on_from_its_checkpoint(
    prepared: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(teachers__RN18__stageA={"max_grad_norm": 2.0})
    record_steps(monkeypatch, after={11: poison})
    assert train.main(["stageA", "RN18"]) == 2
    run, message = run_folder(folder), capsys.readouterr().err
    assert "the loss of step 12 is nan at learning rate 0.00" in message
    assert "the checkpoint of step 9 is kept, and `dvc repro stageA@RN18` goes on" in message
    assert "lower stageA.learning_rate or teachers.RN18.stageA.max_grad_norm, or" in message
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


def test_evaluation_with_logits_that_are_not_finite_ends_the_run(
    prepared: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared()
    monkeypatch.setattr(teacher, "predict", lambda *_, **__: np.full((4, 7), np.inf))
    monkeypatch.setattr(EvalLoader, "in_order", lambda _, parts: parts[0])
    assert train.main(["stageA", "RN18"]) == 2
    message = capsys.readouterr().err
    assert "stageA RN18: some logits of val are not finite; there is no checkpoint yet" in message
    assert "set machine.precision to fp32" in message


def test_reported_weights_that_dvc_does_not_see_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights" / "b3.safetensors"
    weights.parent.mkdir()
    weights.touch()
    monkeypatch.chdir(tmp_path)
    params = shipped(TeacherParams, weights="weights/b3.safetensors")
    assert replace(session(), teacher_params=params).initial.backbone is not None
    (tmp_path / ".dvcignore").write_text("*.safetensors\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"N18.weights: DVC does not see weights/b3.safetensors"):
        assert replace(session(), teacher_params=params).initial


def test_a_deterministic_run_is_allowed_only_what_is_and_says_so(prepared: Project) -> None:
    prepared(machine__deterministic=True, stageA__epochs=1, stageA__warmup_epochs=0)
    try:
        assert train.main(["stageA", "RN18"]) == 0
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
        del os.environ["CUBLAS_WORKSPACE_CONFIG"]
