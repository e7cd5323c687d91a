"""Batches that are too small for what must be made of them, or too large for the GPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shipped import shipped
from torch import nn

from stages.computing.team import ALONE, Team
from stages.config import SamplerFill, TeacherParams
from stages.loading.sampler import EpochSampler
from stages.modeling.teacher import build_teacher
from stages.runtime.errors import UserError
from stages.training.assembly import fit_explained, parameter_groups, require_images
from stages.training.step import build_optimizer
from tests.training.small_loop import BATCH_SIZE, VAL, build_loop, session

WITH_BATCH_NORM = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
WITHOUT = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))


def require(model: nn.Module, *, rows: int, batch_size: int, team: Team = ALONE) -> None:
    sampler = EpochSampler(np.arange(rows) % 7, batch_size=batch_size, seed=7)
    require_images(replace(session(), team=team), model, sampler.sizes)


def test_reported_a_batch_of_one_image_before_batch_norm_is_refused() -> None:
    require(WITHOUT, rows=70, batch_size=1)
    require(WITHOUT, rows=70, batch_size=10, team=Team(0, 10))
    for rows, batch_size, size, expected in (
        (71, 2, 1, r"stageA\.batch_size: .* use 3 or more, or a backbone w"),
        (70, 10, 6, r"some of 10, expected at least 12; use 23 .* fewer than 6"),
    ):
        with pytest.raises(UserError, match=expected):
            require(WITH_BATCH_NORM, rows=rows, batch_size=batch_size, team=Team(0, size))


@given(st.integers(7, 400), st.integers(1, 4))
def test_the_batch_size_that_is_advised_is_large_enough(rows: int, size: int) -> None:
    needed = 2 * size
    if rows >= needed:
        require(WITH_BATCH_NORM, rows=rows, batch_size=2 * needed - 1, team=Team(0, size))


@pytest.mark.parametrize(
    ("factors", "head", "stem"),
    [
        ({}, 1.0, 1.0),
        ({"head_learning_rate_scale": 10.0}, 10.0, 1.0),
        # In test_resnet timm counts the stem, then four blocks.
        ({"layer_decay": 0.5}, 1.0, 0.5**4),
        ({"layer_decay": 0.5, "head_learning_rate_scale": 10.0}, 10.0, 0.5**4),
    ],
)
def test_each_parameter_learns_at_its_rate(
    tmp_path: Path, factors: dict[str, float], head: float, stem: float
) -> None:
    params = shipped(TeacherParams, backbone="test_resnet", embedding_size=4, **factors)
    model = build_teacher(params, image_size=32, scale=9.0, key="teachers.X")
    groups = parameter_groups(model, params, weight_decay=0.25)
    if not factors:  # as checkpoints of earlier versions have them
        assert [sorted(group) for group in groups] == [["params", "weight_decay"]] * 2
    step = build_loop(tmp_path).step
    step.optimizer = build_optimizer(groups, "adamw")
    rates = {"learning_rate": 0.5, "margin_rad": 0.0}
    step.take([VAL[0]], number=0, num_images=BATCH_SIZE, seed=7, **rates)
    group_of = {id(p): group for group in step.optimizer.param_groups for p in group["params"]}
    found = {name: group_of.pop(id(p)) for name, p in model.named_parameters()}
    assert not group_of
    for name, scale in {
        "head.weight": head,
        "embedding.1.bias": head,
        "backbone.conv1.0.weight": stem,
    }.items():
        assert found[name]["lr"] == 0.5 * scale
    decays = {name: group["lr"] * group["weight_decay"] for name, group in found.items()}
    assert decays["head.weight"] == decays["embedding.1.weight"] == 0.5 * 0.25
    assert decays["backbone.conv1.0.weight"] == 0.5 * 0.25 * stem
    assert decays["embedding.1.bias"] == decays["backbone.bn1.weight"] == 0


FILLED = SamplerFill(kind="sampler_fill", min_per_class=2)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "; a smaller batch_size, of 3 at least, with more stageA.accumulate"),
        (
            {"prior": FILLED},
            "of 14 at least, with more stageA.accumulate takes steps of as many images (batch norm "
            "then sees the smaller batches, and each of them is filled up, so rare classes are",
        ),
        ({"prior": FILLED, "batch_size": 14}, "; a smaller stageA.image_size"),
    ],
)
def test_reported_what_does_not_fit_the_gpu_is_told_only_what_helps(
    changes: dict[str, Any], expected: str
) -> None:
    run = session()
    run = replace(run, stage_params=run.stage_params.model_copy(update=changes))
    with pytest.raises(UserError) as caught, fit_explained(run, WITH_BATCH_NORM):
        raise torch.cuda.OutOfMemoryError("Tried to allocate 9 GiB. GPU 0 has less")
    assert "px do not fit the GPU: Tried to allocate 9 GiB; " in str(caught.value)
    assert expected in str(caught.value)
