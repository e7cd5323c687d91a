"""What makes a run another one, and which processes trained it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from shipped import PARAMS

from stages.config import (
    ClassWeights,
    NoCorrection,
    Preprocess,
    Stage,
    StageOverrides,
    TeacherParams,
)
from stages.runtime.files import read_json, write_json
from stages.training.inputs import InitialWeights
from stages.training.run import (
    ENVIRONMENT_FILE,
    Run,
    open_run,
    record_environment,
    training_version,
)
from tests.training.small_loop import session

LATER_AUGMENTATION = (
    "rotation_deg shift zoom_out low_resolution blur jpeg gamma grey erasing".split()
)
STAGE = Stage.model_validate(
    {
        "init_from": "stageA",
        "filter": {"include_sources": ("rafdb_basic", "expw_hq"), "min_native_px": 64},
        "targets": "majority",
        "image_size": 56,
        "epochs": 3,
        "batch_size": 32,
        "accumulate": 1,
        "learning_rate": 1e-3,
        "min_lr": 1e-5,
        "weight_decay": 0.05,
        "warmup_epochs": 0.5,
        "max_grad_norm": 5.0,
        "label_smoothing": 0.0,
        "ema_decay": 0.98,
        "eval_every": 1,
        "select_by": "macro_f1",
        "mirror_averaged": False,
        "arcface": {"margin_rad": 0.05, "scale": 12.0, "warmup_epochs": 0, "ramp_end_epoch": 0},
        "prior": {"kind": "logit_adjustment", "tau": 1.0},
        "augmentation": {"crop_scale": (0.8, 1.0), "flip": 0.5}
        | dict.fromkeys(("brightness", "contrast", "saturation"), 0.2)
        | dict.fromkeys(LATER_AUGMENTATION, 0.0),
    }
)
PREPROCESS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PREPROCESS |= {"clahe": {"clip_limit": 2.0, "tiles": 8}}
TEACHER = {"backbone": "resnet18", "embedding_size": 128, "dropout": 0.0, "pretrained": False}
TEACHER |= {"weights": None, "optimizer": "adamw", "learning_rate_scale": 1.0}
# Keys that came later, at values that change nothing.
TEACHER |= {"backbone_options": {}, "head_learning_rate_scale": 1.0, "layer_decay": 1.0}
TEACHER |= {"stageA": {}, "stageB": {}}
WEIGHTED = {"prior": ClassWeights(kind="class_weights", beta=0.99), "accumulate": 2}


def open_with(stage_params: Stage, **teacher: Any) -> Run:
    return open_run(
        "stageB",
        teacher="RN18",
        version=training_version(stage_params),
        params={
            "seed": 7,
            "preprocess": Preprocess.model_validate(PREPROCESS),
            "stageB": stage_params,
            "teacher": TeacherParams.model_validate(TEACHER | teacher),
        },
        data={"manifest": "a" * 64, "rows": "b" * 64, "toy/faces-00000.arrow": "c" * 64},
        init_sha256="d" * 64,
    )


@pytest.mark.parametrize(
    ("changes", "fingerprint"),
    [
        ({}, "eb71aa5fbbd5b9ced810ffb11dc2ea1c62d058b21500aca06dec09a0d3d3a104"),
        (WEIGHTED, "d9459a9ac3d4df4881925256fcaf4114516ad1b1e479aa76891ea85e4fcf7d92"),
    ],
)
def test_the_fingerprint_of_a_run_stays_what_it_was(
    changes: dict[str, Any], fingerprint: str
) -> None:
    """A change of it begins every run anew that is in the middle of its nights."""
    stage_params = STAGE.model_copy(update=changes)
    run = open_with(stage_params)
    assert run.fingerprint == fingerprint
    assert run.folder.name == fingerprint[:16]
    augmentation = stage_params.augmentation
    later: list[dict[str, Any]] = [{"targets": "votes"}, {"mirror_averaged": True}] + [
        {"augmentation": augmentation.model_copy(update={key: 0.1})} for key in LATER_AUGMENTATION
    ]
    others = [open_with(stage_params.model_copy(update=other)) for other in later]
    others += [
        open_with(stage_params, backbone_options={"drop_path_rate": 0.1}),
        open_with(stage_params, head_learning_rate_scale=10.0),
        open_with(stage_params, layer_decay=0.75),
    ]
    assert len({run.fingerprint for run in (*others, run)}) == 1 + len(others)


def test_a_teachers_own_values_make_another_run_of_their_stage_where_they_differ() -> None:
    def fingerprint(stage: str, own: dict[str, Any]) -> str:
        overrides = StageOverrides.model_validate(own)
        teacher = PARAMS.teachers["RN18"].model_copy(update={"stageB": overrides})
        params = PARAMS.model_copy(update={"teachers": PARAMS.teachers | {"RN18": teacher}})
        stage_params, preprocess = params.effective(stage, "RN18")
        changes = {"stage_params": stage_params, "preprocess": preprocess}
        run = replace(session(), stage=stage, teacher_params=teacher, **changes)
        ids = pd.DataFrame({"id": ["a"]})
        rows = SimpleNamespace(train=ids, val=ids, manifest_sha256="")
        run.__dict__.update(rows=rows, initial=InitialWeights(None, None))
        return run.run.fingerprint

    before = {stage: fingerprint(stage, {}) for stage in ("stageA", "stageB")}
    same = {"image_size": PARAMS.stageB.image_size, "arcface": {}, "preprocess": {}}
    assert fingerprint("stageB", same) == before["stageB"]
    for own in ({"image_size": 40}, {"preprocess": {"mean": (0.5, 0.5, 0.5)}}):
        assert fingerprint("stageB", own) != before["stageB"]
        assert fingerprint("stageA", own) == before["stageA"]


def test_reported_only_a_run_that_took_another_gradient_has_another_version() -> None:
    assert training_version(STAGE.model_copy(update=WEIGHTED)) == 2
    for other in ({"accumulate": 1}, {"prior": NoCorrection(kind="none")}):
        assert training_version(STAGE.model_copy(update=WEIGHTED | other)) == 1


def test_only_what_changed_since_the_process_before_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, other = {"torch": "2", "timm": "1"}, {"torch": "3", "timm": "1"}, {"torch": "3"}
    processes = [
        (0, "H100", old),
        (0, "cpu", old),  # a run that has done no step begins anew
        (5, "cpu", old),
        (9, "H100", old),
        (12, "H100", new),
        (15, "H100", new),
        (20, "cpu", other),
    ]
    path = tmp_path / ENVIRONMENT_FILE
    for step, device, packages in processes:
        known = {"python": "3.11", "packages": packages}
        monkeypatch.setattr("stages.training.run.environment", known.copy)
        record_environment(tmp_path, step=step, computing={"device": device, "dtype": "fp32"})
        if step == 0:  # as an earlier version wrote it
            recorded = read_json(path)
            del recorded["later_processes"]
            write_json(path, recorded)
    recorded = read_json(path)
    later = recorded.pop("later_processes")
    begun = {"python": "3.11", "packages": old, "device": "cpu", "dtype": "fp32"}
    assert recorded == begun
    assert [{k: v for k, v in process.items() if k != "start"} for process in later] == [
        {"step": 9, "device": "H100"},
        {"step": 12, "packages": {"torch": "3"}},
        {"step": 20, "device": "cpu", "packages": {"timm": None}},
    ]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert "at step 9: device cpu -> H100;" in warnings[0]
