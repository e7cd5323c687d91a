"""The training door: what it publishes, where it starts from, and what it refuses."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from stages import manifest, standardize, train
from stages.modeling.weights import load_teacher, read_card
from stages.runtime.files import read_json, sha256_file
from stages.runtime.lock import run_lock

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
    assert report["train"]["after"]["by_native_px"]["[32.0, 64.0)"] == 7 * 10
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
    report = {"standardize__sources": two, "manifest__copies": "report_only"}
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


def test_a_second_run_of_the_same_recipe_trains_nothing_and_says_so(
    prepared: Project, caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepared()
    train.main(["stageA", "RN18"])
    before = (folder / "models/stageA/RN18/logits.parquet").read_bytes()
    with caplog.at_level("INFO"):
        assert train.main(["stageA", "RN18"]) == 0
    assert "nothing to train: all 4 epochs of this run are done" in caplog.text
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
    prepared: Project, capsys: pytest.CaptureFixture[str], changes: dict[str, object], expected: str
) -> None:
    prepared(**changes)
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
