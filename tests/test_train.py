"""The training door: what it publishes, where it starts from, and what it refuses."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from stages import manifest, standardize, train
from stages.config import load_params
from stages.loading.sampler import EpochSampler
from stages.modeling.card import read_card
from stages.modeling.weights import load_teacher
from stages.records.schema import targets_of
from stages.runtime.files import read_json, sha256_file
from stages.runtime.lock import run_lock
from stages.training import learning
from stages.training.checkpoint import load_checkpoint
from stages.training.progress import CLOCK_KEYS
from stages.training.selection import choose_rows

Project = Callable[..., Path]
PUBLISHED = {
    "best.safetensors", "teacher.json", "history.json", "alignmentreport.json",
    "environment.json", "logits.parquet",
}  # fmt: skip


@pytest.fixture
def prepared(project: Project) -> Project:
    """The project with its manifest made."""

    def prepare(**changes: object) -> Path:
        folder = project(**changes)
        assert standardize.main([]) == 0
        assert manifest.main([]) == 0
        return folder

    return prepare


def run_folder(folder: Path, stage: str = "stageA") -> Path:
    (found,) = (folder / ".work" / stage / "RN18").iterdir()
    return found


def test_what_is_published_belongs_together(prepared: Project) -> None:
    folder = prepared()
    assert train.main(["stageA", "RN18"]) == 0
    published = folder / "models" / "stageA" / "RN18"
    assert {path.name for path in published.iterdir()} == PUBLISHED
    _, card = load_teacher(published)
    assert card.weights_sha256 == sha256_file(published / "best.safetensors")
    assert card.manifest_sha256 == sha256_file(folder / "manifests" / "classification_manifest.csv")
    report = read_json(published / "alignmentreport.json")
    assert report["train"]["after"]["rows"] == 7 * 10
    assert report["train"]["after"]["by_native_px"]["32_47"] == 7 * 10
    logits = pd.read_parquet(published / "logits.parquet")
    assert len(logits) == 7 * (5 + 5)
    assert not logits["seen"].any()


def test_incident_T6_the_published_metric_is_that_of_the_published_weights(
    prepared: Project,
) -> None:
    folder = prepared(stageA__epochs=4, stageA__eval_every=2)
    assert train.main(["stageA", "RN18"]) == 0
    published = folder / "models" / "stageA" / "RN18"
    logits = pd.read_parquet(published / "logits.parquet")
    rows = pd.read_csv(folder / "manifests" / "classification_manifest.csv").set_index("id")
    val = logits[logits["id"].map(rows["split"]) == "val"]
    predicted = val.filter(like="logit_").to_numpy().argmax(axis=1)
    names = [column.removeprefix("logit_") for column in val.filter(like="logit_").columns]
    hits = [
        names[k] == rows["label"][id_].lower() for k, id_ in zip(predicted, val["id"], strict=True)
    ]
    assert read_card(published).metric["accuracy"] == pytest.approx(sum(hits) / len(hits))


def test_stage_b_starts_from_the_weights_of_stage_a(prepared: Project) -> None:
    folder = prepared(stageB__epochs=0)
    assert train.main(["stageA", "RN18"]) == 0
    assert train.main(["stageB", "RN18"]) == 0
    models = folder / "models"
    first, second = (
        load_file(models / stage / "RN18" / "best.safetensors") for stage in ("stageA", "stageB")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_that_stage_a_learnt_from_are_seen_in_stage_b_too(prepared: Project) -> None:
    gate = {"splits": ["train", "val", "test"], "gate": True}
    thinned = {"include_sources": ["toy"], "max_per_class": 2}
    folder = prepared(
        manifest__views={"toy_train": {"splits": ["train"]}, "all": gate}, stageB__filter=thinned
    )
    assert train.main(["stageA", "RN18"]) == 0
    assert train.main(["stageB", "RN18"]) == 0
    for stage in ("stageA", "stageB"):
        logits = pd.read_parquet(folder / "models" / stage / "RN18" / "logits.parquet")
        assert logits["seen"].sum() == 7 * 10


def test_zero_epochs_keeps_size_and_scale_of_the_weights(prepared: Project) -> None:
    folder = prepared(stageB__epochs=0, stageB__image_size=40, stageB__arcface__scale=5.0)
    train.main(["stageA", "RN18"])
    assert train.main(["stageB", "RN18"]) == 0
    first, second = (
        pd.read_parquet(folder / "models" / stage / "RN18" / "logits.parquet")
        for stage in ("stageA", "stageB")
    )
    pd.testing.assert_frame_equal(first, second)
    assert read_card(folder / "models/stageB/RN18").image_size == 32


def test_incident_R7_a_source_group_that_changed_is_another_run(prepared: Project) -> None:
    two = {
        "toy": {"format": "folder7", "path": "toy"},
        "more": {"format": "folder7", "path": "toy"},
    }
    report = {"standardize__sources": two, "manifest__duplicates__policy": "report_only"}
    both, one = {"group": ["toy", "more"]}, {"group": ["toy"]}
    for groups in (both, one):
        folder = prepared(
            manifest__source_groups=groups, stageA__filter={"include_sources": ["group"]}, **report
        )
        assert train.main(["stageA", "RN18"]) == 0
    assert len(list((folder / ".work" / "stageA" / "RN18").iterdir())) == 2


def test_zero_epochs_says_that_weights_pass_through(
    prepared: Project, caplog: pytest.LogCaptureFixture
) -> None:
    prepared(stageB__epochs=0)
    train.main(["stageA", "RN18"])
    with caplog.at_level("INFO"):
        assert train.main(["stageB", "RN18"]) == 0
    assert "epochs is 0: the weights of stageA pass through unchanged" in caplog.text


def test_incident_T7_a_second_run_of_the_same_recipe_trains_nothing_and_says_why(
    prepared: Project, caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepared()
    train.main(["stageA", "RN18"])
    before = (folder / "models/stageA/RN18/logits.parquet").read_bytes()
    caplog.clear()
    with caplog.at_level("INFO"):
        assert train.main(["stageA", "RN18"]) == 0
    assert "nothing to train: all 4 epochs of this run are done" in caplog.text
    assert caplog.text.count("preflight of") == 0
    assert (folder / "models/stageA/RN18/logits.parquet").read_bytes() == before


def test_incident_R7_another_recipe_or_manifest_is_another_run(prepared: Project) -> None:
    folder = prepared()
    runs = folder / ".work" / "stageA" / "RN18"
    assert train.main(["stageA", "RN18"]) == 0
    prepared(stageA__learning_rate=2e-3)
    assert train.main(["stageA", "RN18"]) == 0
    assert len(list(runs.iterdir())) == 2
    first = next((folder / "raw" / "toy" / "train" / "Happy").iterdir())
    first.unlink()
    prepared()
    assert train.main(["stageA", "RN18"]) == 0
    assert len(list(runs.iterdir())) == 3


def test_incident_R6_missing_init_weights_are_an_error(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepared()
    assert train.main(["stageB", "RN18"]) == 2
    message = capsys.readouterr().err
    assert "models/stageA/RN18/best.safetensors: missing, and init_from is stageA" in message
    assert "dvc repro stageA@RN18" in message
    assert not (folder / "models").exists()
    prepared(teachers__RN18__weights="weights/nowhere.pt")
    assert train.main(["stageA", "RN18"]) == 2
    assert "teachers.RN18.weights: no file weights/nowhere.pt" in capsys.readouterr().err


def test_a_held_lock_is_exit_code_3_and_names_the_holder(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepared()
    train.main(["stageA", "RN18"])
    before = (folder / "models/stageA/RN18/best.safetensors").read_bytes()
    command = [sys.executable, "-m", "stages.train", "stageA", "RN18"]
    with run_lock(run_folder(folder)):
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True,
            env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": ""},
        )  # fmt: skip
    assert done.returncode == 3
    assert "another run holds the lock: pid " in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "models/stageA/RN18/best.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stageA__filter__include_sources": ["toi"]}, "stageA.filter.include_sources: no rows of source 'toi'; known: ['toy']"),
        ({"stageA__filter__min_native_px": 100}, "stageA.filter"),
        ({"teachers__RN18__backbone": "resnet81"}, "teachers.RN18.backbone: timm has no model 'resnet81'"),
        ({"machine__device": "cuda:7"}, "machine.device: 'cuda:7' asked for"),
    ],
)  # fmt: skip
def test_wrong_params_are_exit_code_2(
    prepared: Project,
    project: Project,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    expected: str,
) -> None:
    prepared()
    project(**changes)
    assert train.main(["stageA", "RN18"]) == 2
    assert expected in capsys.readouterr().err


def test_an_unknown_teacher_is_exit_code_2(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared()
    assert train.main(["stageA", "RN50"]) == 2
    assert "teachers: no 'RN50'; known: ['B3', 'RN18']" in capsys.readouterr().err


def test_incident_D7_rows_without_images_are_an_error_at_once(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepared()
    (folder / "standardized" / "toy" / "faces-00000.arrow").unlink()
    assert train.main(["stageA", "RN18"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def at_forward(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that lets something happen once, in the training forward of that number.

    The preflight of these small runs has the first one.
    """

    def arrange(number: int, event: Callable[[torch.nn.Module], object]) -> None:
        build, numbers = learning.build_model, count(1)

        def hook(module: torch.nn.Module, _: object) -> None:
            if module.training and next(numbers) == number:
                event(module)

        def build_with_hook(*args: Any, **options: Any) -> torch.nn.Module:
            model = build(*args, **options)
            model.backbone.register_forward_pre_hook(hook)
            return model

        monkeypatch.setattr(learning, "build_model", build_with_hook)

    return arrange


def interrupt(_: torch.nn.Module) -> None:
    signal.raise_signal(signal.SIGTERM)


def poison(backbone: torch.nn.Module) -> None:
    with torch.no_grad():
        next(backbone.parameters()).fill_(float("nan"))


def test_incident_T3_a_size_that_the_backbone_cannot_take_stops_before_the_data_is_read(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepared(teachers__RN18__backbone="efficientformer_l1")
    (folder / "standardized" / "toy" / "faces-00000.arrow").unlink()
    assert train.main(["stageA", "RN18"]) == 2
    expected = "teachers.RN18.backbone: 'efficientformer_l1' does not take 32 px images"
    assert expected in capsys.readouterr().err


def test_incident_T4_the_preflight_prints_and_keeps_what_the_run_will_cost(
    prepared: Project, caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepared()
    with caplog.at_level("INFO"):
        assert train.main(["stageA", "RN18"]) == 0
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("preflight")]
    assert re.fullmatch(
        r"preflight of 1 steps: \d+ img/s, data wait \d+ %, (peak memory [\d.]+ of [\d.]+ GiB, )?"
        r"scoring \d+ img/s; 0:\d\d:\d\d to the end \(a rough forecast, of so few steps\): "
        r"36 steps, 4 evaluations, 210 rows to score",
        line,
    )
    history = read_json(folder / "models/stageA/RN18/history.json")
    first, *others = (record["preflight"] for record in history)
    assert others == [None] * 3
    assert first["left"] == {"steps": 36, "evaluations": 4, "rows_to_score": 4 * 35 + 70}
    assert first["took_s"] >= sum(r["seconds"] + r["eval_seconds"] for r in history) - 0.1
    assert re.search(r"forecast 0:\d\d:\d\d, took 0:\d\d:\d\d \([+-]\d+ %\)", caplog.text)


def test_incident_T4_a_plan_over_max_hours_is_refused_before_it_begins(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepared(machine__max_hours=1e-6)
    assert train.main(["stageA", "RN18"]) == 2
    assert "machine.max_hours: 1e-06 hours are allowed, the forecast is" in capsys.readouterr().err
    assert load_checkpoint(run_folder(folder)) is None
    # It is no part of the run: with more time the same one goes on.
    prepared(machine__max_hours=24)
    assert train.main(["stageA", "RN18"]) == 0
    assert run_folder(folder)


def test_a_preflight_with_workers_changes_no_bit_of_a_run_without_either(
    prepared: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.training.preflight.MAX_SHARE", 0.3)
    folder = prepared(stageA__epochs=2, machine__workers=2)
    assert train.main(["stageA", "RN18"]) == 0
    published, run = folder / "models/stageA/RN18", run_folder(folder)
    names = ("best.safetensors", "logits.parquet")
    with_it = [(published / name).read_bytes() for name in names] + [learnt(run)]
    shutil.rmtree(run)
    monkeypatch.setattr("stages.training.learning.preflight", lambda *_, **__: {"forecast_s": 1.0})
    prepared(stageA__epochs=2, machine__workers=0)
    assert train.main(["stageA", "RN18"]) == 0
    without = [(published / name).read_bytes() for name in names] + [learnt(run)]
    assert with_it == without


def learnt(run: Path) -> list[dict[str, Any]]:
    """The history of the last checkpoint without what the clock decides."""
    state = load_checkpoint(run)
    assert state is not None
    history = state["progress"]["history"]
    return [{k: v for k, v in r.items() if k not in CLOCK_KEYS} for r in history]


def test_a_non_finite_loss_names_its_faces_and_the_checkpoint_that_is_kept(
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
    section = load_params().stageA
    rows = choose_rows(Path("manifests"), rows=section.filter, key="stageA.filter").train
    sampler = EpochSampler(targets_of(rows), batch_size=section.batch_size, seed=7)
    assert sampler.num_batches == 9
    assert written["ids"] == rows["id"].iloc[sampler.batches(1)[12 - 9]].tolist()


def test_a_run_goes_on_after_a_non_finite_loss(
    prepared: Project, at_forward: Callable[..., None]
) -> None:
    folder = prepared()
    at_forward(1 + 13, poison)
    assert train.main(["stageA", "RN18"]) == 2
    assert train.main(["stageA", "RN18"]) == 0
    history = read_json(folder / "models/stageA/RN18/history.json")
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]


def test_another_precision_after_a_resume_is_warned_about_and_recorded(
    prepared: Project, at_forward: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepared()
    at_forward(1 + 5, interrupt)
    assert train.main(["stageA", "RN18"]) == 128 + signal.SIGTERM
    assert "resumed on another machine" not in caplog.text
    prepared(machine__precision="bf16")
    assert train.main(["stageA", "RN18"]) == 0
    warned = "at step 5: dtype torch.float32 -> torch.bfloat16; bits and numbers may differ"
    assert warned in caplog.text
    recorded = read_json(folder / "models/stageA/RN18/environment.json")
    assert recorded["dtype"] == "torch.float32"
    (later,) = recorded["later_processes"]
    assert (later["step"], later["dtype"]) == (5, "torch.bfloat16")
    assert "device" not in later


def test_the_same_machine_after_a_resume_is_no_news(
    prepared: Project, at_forward: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepared()
    at_forward(1 + 5, interrupt)
    assert train.main(["stageA", "RN18"]) == 128 + signal.SIGTERM
    assert train.main(["stageA", "RN18"]) == 0
    assert "resumed on another machine" not in caplog.text
    assert read_json(folder / "models/stageA/RN18/environment.json")["later_processes"] == []


def test_a_deterministic_run_is_allowed_only_what_is_and_says_so(prepared: Project) -> None:
    folder = prepared(machine__deterministic=True)
    try:
        assert train.main(["stageA", "RN18"]) == 0
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
        del os.environ["CUBLAS_WORKSPACE_CONFIG"]
    assert read_json(folder / "models/stageA/RN18/environment.json")["deterministic"] is True
