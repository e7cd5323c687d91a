"""The training door: what it publishes, where it starts from, and what it refuses."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages import manifest, standardize, train
from stages.faces.store import FaceStore
from stages.loading.loader import scoring_batches
from stages.modeling.card import StartedFrom, read_card
from stages.modeling.predict import predict
from stages.modeling.teacher import load_teacher
from stages.records.schema import targets_of
from stages.runtime.files import read_json, sha256_file
from stages.training.teacher import score_evaluation

Project = Callable[..., Path]
PUBLISHED = {"best.safetensors", "teacher.json", "history.json", "alignmentreport.json"}
PUBLISHED |= {"environment.json", "logits.parquet"}
TEACHER = Path("models/stageA/RN18")
SHORT = {"stageA__epochs": 1, "stageA__arcface__ramp_end_epoch": 1}
SHORT |= {"stageA__arcface__warmup_epochs": 0}


def test_incident_T6_what_is_published_belongs_together(prepared: Project) -> None:
    folder = prepared()
    assert train.main(["stageA", "RN18"]) == 0
    published = folder / TEACHER
    assert {path.name for path in published.iterdir()} == PUBLISHED
    _, card = load_teacher(published)
    assert card.weights_sha256 == sha256_file(published / "best.safetensors")
    manifest_file = folder / "manifests" / "classification_manifest.csv"
    assert card.manifest_sha256 == sha256_file(manifest_file)
    assert (card.filter.include_sources, card.started_from) == (("toy",), None)
    report = read_json(published / "alignmentreport.json")
    assert report["train"]["after"]["rows"] == 7 * 10
    assert report["train"]["after"]["by_native_px"]["32_47"] == 7 * 10
    logits = pd.read_parquet(published / "logits.parquet").set_index("id")
    assert len(logits) == 7 * (5 + 5)
    assert not logits["seen"].any()
    rows = pd.read_csv(manifest_file).set_index("id")
    val = logits.join(rows[rows["split"] == "val"], how="inner")
    columns = val.filter(like="logit_").to_numpy(dtype=np.float64)
    scores = score_evaluation(columns, targets_of(val))
    for name in ("n", "accuracy", "nll", "temperature", "scaled_nll"):
        assert card.metric[name] == pytest.approx(scores[name], rel=1e-3)


def test_a_mirror_averaged_stage_publishes_what_its_teacher_says_of_both_in_float32(
    prepared: Project,
) -> None:
    folder = prepared(**SHORT, stageA__mirror_averaged=True, machine__precision="bf16")
    assert train.main(["stageA", "RN18"]) == 0
    teacher, card = load_teacher(folder / TEACHER)
    logits = pd.read_parquet(folder / TEACHER / "logits.parquet").set_index("id")
    rows = pd.read_csv(folder / "manifests" / "classification_manifest.csv")
    rows = rows[rows["id"].isin(logits.index)]
    batches = scoring_batches(
        FaceStore(folder / "standardized"),
        rows,
        image_size=card.image_size,
        preprocess=card.preprocess_params,
        workers=0,
        device=torch.device("cpu"),
    )
    expected = logits.loc[rows["id"]].filter(like="logit_").to_numpy()
    difference = []
    for teacher.mirror_averaged in (True, False):
        found = predict(
            teacher,
            batches,
            finish=batches.finish,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
        difference.append(np.abs(found - expected).max())
    assert difference[0] < 1e-4 < 1e-2 < difference[1]


def test_incident_T4_T7_a_run_says_what_it_will_cost_and_a_second_one_that_it_is_done(
    prepared: Project, caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepared(stageA__eval_every=2)
    with caplog.at_level("INFO"):
        assert train.main(["stageA", "RN18"]) == 0
    assert re.search(
        r"preflight of 1 steps: \d+ img/s, data wait \d+ %, (peak memory [\d.]+ of [\d.]+ GiB, )?"
        r"scoring \d+ img/s; 0:\d\d:\d\d to the end \(a rough forecast, of so few steps\): "
        r"36 steps, 2 evaluations, 140 rows to score\n",
        caplog.text,
    )
    history = read_json(folder / TEACHER / "history.json")
    first, *others = (record["preflight"] for record in history)
    assert others == [None] * 3
    assert first["left"] == {"steps": 36, "evaluations": 2, "rows_to_score": 2 * 35 + 70}
    assert first["took_s"] >= sum(r["seconds"] + r["eval_seconds"] for r in history) - 0.1
    assert re.search(r"forecast 0:\d\d:\d\d, took 0:\d\d:\d\d \([+-]\d+ %\)", caplog.text)
    caplog.clear()
    with caplog.at_level("INFO"):
        assert train.main(["stageA", "RN18"]) == 0
    assert "nothing to train: all 4 epochs of this run are done" in caplog.text
    assert "preflight of" not in caplog.text


def test_zero_epochs_pass_stage_a_through_at_its_input_and_scale_and_say_so(
    prepared: Project, caplog: pytest.LogCaptureFixture
) -> None:
    zero = {"stageB__epochs": 0, "stageB__image_size": 40, "stageB__arcface__scale": 5.0}
    own = {"image_size": 36, "preprocess": {"mean": [0.1, 0.2, 0.3]}, "mirror_averaged": True}
    folder = prepared(**SHORT, **zero, teachers__RN18__stageA=own)
    assert train.main(["stageA", "RN18"]) == 0
    with caplog.at_level("INFO"):
        assert train.main(["stageB", "RN18"]) == 0
    text = "epochs is 0: the weights of stageA pass through unchanged, for pictures of 36 px"
    assert text in caplog.text
    first, second = (folder / "models" / stage / "RN18" for stage in ("stageA", "stageB"))
    for name in ("best.safetensors", "logits.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    card, before = read_card(second), read_card(first)
    assert (card.image_size, card.preprocess["mean"]) == (36, [0.1, 0.2, 0.3])
    assert card.mirror_averaged
    assert card.prior_correction == before.prior_correction
    assert card.started_from == StartedFrom(stage="stageA", weights_sha256=before.weights_sha256)


def test_rows_that_stage_a_learnt_from_are_seen_in_stage_b_too(project: Project) -> None:
    gate = {"splits": ["train", "val", "test"], "gate": True}
    thinned = {"include_sources": ["toy"], "max_per_class": 2}
    folder = project(
        manifest__views={"toy_train": {"splits": ["train"]}, "all": gate},
        stageB__filter=thinned,
        stageB__epochs=1,
        **SHORT,
    )
    assert standardize.main([]) == manifest.main([]) == 0
    for stage in ("stageA", "stageB"):
        assert train.main([stage, "RN18"]) == 0
        logits = pd.read_parquet(folder / "models" / stage / "RN18" / "logits.parquet")
        assert logits["seen"].sum() == 7 * 10


def test_incident_R7_another_recipe_manifest_or_source_group_is_another_run(
    prepared: Project,
) -> None:
    def num_runs(**changes: Any) -> int:
        prepared(**SHORT | changes)
        assert manifest.main([]) == 0
        assert train.main(["stageA", "RN18"]) == 0
        return len(list(Path(".work/stageA/RN18").iterdir()))

    assert num_runs() == 1
    assert num_runs(stageA__learning_rate=2e-3) == 2
    next(Path("raw/toy/train/Happy").iterdir()).unlink()
    two = {name: {"format": "folder7", "path": "toy"} for name in ("toy", "more")}
    grouped = {
        "standardize__sources": two,
        "manifest__duplicates__policy": "report_only",
        "stageA__filter": {"include_sources": ["group"]},
    }
    prepared(**grouped)
    assert standardize.main([]) == 0
    for number, group in ((3, ["toy", "more"]), (4, ["toy"])):
        assert num_runs(**grouped, manifest__source_groups={"group": group}) == number


def test_incident_R6_missing_init_weights_are_an_error(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepared()
    assert train.main(["stageB", "RN18"]) == 2
    message = capsys.readouterr().err
    assert "models/stageA/RN18/best.safetensors: missing, and init_from is stageA" in message
    assert "dvc repro stageA@RN18" in message
    assert not (folder / "models").exists()


@pytest.mark.parametrize(
    ("teacher", "changes", "expected"),
    [
        ("RN18", {"stageA__filter__include_sources": ["toi"]}, "no rows of source 'toi'; known: "),
        ("RN18", {"stageA__filter__min_native_px": 100}, "stageA.filter"),
        ("RN18", {"machine__device": "cuda:7"}, "machine.device: 'cuda:7' asked for"),
        ("RN18", {"stageA__targets": "votes"}, "stageA.targets: votes, but none of the "),
        ("RN18", {"stageA__batch_size": 1}, "stageA.batch_size: 70 images in 70 batches leave"),
        ("RN18", {"teachers__RN18__stageA": {"batch_size": 1}}, "RN18.stageA.batch_size: 70 imag"),
        ("RN18", {"machine__max_hours": 1e-6}, "max_hours: 1e-06 hours are allowed, the forecast"),
        ("RN18", {"teachers__RN18__weights": "weights/x"}, "teachers.RN18.weights: no file "),
        ("RN50", {}, "teachers: no 'RN50'; known: ['B3', 'RN18']"),
    ],
)
def test_wrong_params_are_exit_code_2(
    prepared: Project,
    capsys: pytest.CaptureFixture[str],
    teacher: str,
    changes: dict[str, object],
    expected: str,
) -> None:
    prepared(**changes)
    assert train.main(["stageA", teacher]) == 2
    assert expected in capsys.readouterr().err
    assert not list(Path(".work").rglob("checkpoint*"))


def test_incident_D7_T3_what_cannot_be_trained_on_stops_at_once(
    prepared: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepared(teachers__RN18__backbone="efficientformer_l1")
    (folder / "standardized" / "toy" / "faces-00000.arrow").unlink()
    # Before the data is read.
    assert train.main(["stageA", "RN18"]) == 2
    expected = "teachers.RN18.backbone: 'efficientformer_l1' does not take 32 px images"
    assert expected in capsys.readouterr().err
    prepared()
    assert train.main(["stageA", "RN18"]) == 2
    assert "Traceback" not in capsys.readouterr().err
