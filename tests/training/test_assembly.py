"""Batches that are too small for what must be made of them, or too large for the GPU."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stages.computing.team import ALONE, Team
from stages.config import SamplerFill
from stages.loading.sampler import EpochSampler
from stages.runtime.errors import UserError
from stages.training.assembly import fit_explained, require_images
from tests.training.small_loop import session

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
