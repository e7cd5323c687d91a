"""Batches that are too small for what must be made of them, or too large for the GPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stages import train
from stages.computing.team import ALONE, Team
from stages.config import SamplerFill, load_params
from stages.loading.sampler import EpochSampler
from stages.runtime.errors import UserError
from stages.training.assembly import require_images, too_large

STAGE = load_params(Path(__file__).parents[2] / "params.yaml").stageA
WITH_BATCH_NORM = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
WITHOUT = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))


def require(model: nn.Module, *, rows: int, batch_size: int, team: Team = ALONE) -> None:
    sampler = EpochSampler(np.arange(rows) % 7, batch_size=batch_size, seed=7)
    require_images(sampler.sizes, model=model, key="stageA", team=team)


def test_reported_a_batch_of_one_image_before_batch_norm_is_refused() -> None:
    require(WITH_BATCH_NORM, rows=70, batch_size=2)
    for rows, batch_size in ((70, 1), (71, 2)):
        require(WITHOUT, rows=rows, batch_size=batch_size)
        with pytest.raises(
            UserError, match=r"stageA\.batch_size: .* use 3 or more, or a backbone w"
        ):
            require(WITH_BATCH_NORM, rows=rows, batch_size=batch_size)


def test_each_process_gets_two_images_before_batch_norm_or_else_one() -> None:
    require(WITH_BATCH_NORM, rows=70, batch_size=10, team=Team(0, 5))
    require(WITHOUT, rows=70, batch_size=10, team=Team(0, 10))
    with pytest.raises(
        UserError, match=r"some of 10, expected at least 12; use 23 .* fewer than 6"
    ):
        require(WITH_BATCH_NORM, rows=70, batch_size=10, team=Team(0, 6))
    with pytest.raises(UserError, match=r"at least 11; use 21 or more, or fewer than 11 machine"):
        require(WITHOUT, rows=70, batch_size=10, team=Team(0, 11))


@given(st.integers(7, 400), st.integers(1, 4))
def test_the_batch_size_that_is_advised_is_large_enough(rows: int, size: int) -> None:
    needed = 2 * size
    if rows >= needed:
        require(WITH_BATCH_NORM, rows=rows, batch_size=2 * needed - 1, team=Team(0, size))


@pytest.mark.parametrize("image_size", [32, 64])
def test_reported_a_batch_of_one_is_exit_code_2_before_the_first_epoch(
    prepared: Callable[..., Path], capsys: pytest.CaptureFixture[str], image_size: int
) -> None:
    prepared(stageA__batch_size=1, stageA__image_size=image_size)
    assert train.main(["stageA", "RN18"]) == 2
    message = capsys.readouterr().err
    assert "params.yaml: stageA.batch_size: 70 images in 70 batches leave some of 1" in message
    assert "Traceback" not in message
    # Two at a time, of an even number of rows: no batch is left with one.
    prepared(stageA__batch_size=2, stageA__image_size=image_size, stageA__epochs=1)
    assert train.main(["stageA", "RN18"]) == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            "do not fit the GPU: it; a smaller batch_size, of 3 at least, with more stageA.accumulate",
        ),
        ({"batch_size": 3}, "do not fit the GPU: it; a smaller stageA.image_size"),
        (
            {"prior": SamplerFill(kind="sampler_fill", min_per_class=2)},
            "of 14 at least, with more stageA.accumulate takes steps of as many images (batch norm "
            "then sees the smaller batches, and each of them is filled up, so rare classes are",
        ),
        (
            {"prior": SamplerFill(kind="sampler_fill", min_per_class=4), "batch_size": 28},
            "do not fit the GPU: it; a smaller stageA.image_size",
        ),
    ],
)
def test_reported_what_does_not_fit_the_gpu_is_told_only_what_helps(
    changes: dict[str, Any], expected: str
) -> None:
    stage_params = STAGE.model_copy(update=changes)
    assert expected in str(too_large(stage_params, key="stageA", least=3, reason="it"))
