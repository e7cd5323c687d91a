"""One optimizer step takes the gradient of all its images, however they come."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.computing.team import ALONE
from stages.config import ClassWeights, LogitAdjustment, Prior, SamplerFill
from stages.training.losses import build_loss
from stages.training.step import Batch
from tests.training.small_loop import CPU, NONE, build_loop, still

COUNTS = np.array([100, 10, 20, 800, 300, 200, 1000])
PRIORS = [
    ClassWeights(kind="class_weights", beta=0.999),
    LogitAdjustment(kind="logit_adjustment", tau=1.0),
    SamplerFill(kind="sampler_fill", min_per_class=1),
    NONE,
]


def images(number: int) -> Batch:
    generator = torch.Generator().manual_seed(5)
    return {
        "image": torch.randn(number, 3, 8, 8, generator=generator),
        "target": torch.multinomial(
            torch.tensor(COUNTS / COUNTS.sum()), number, replacement=True, generator=generator
        ),
        "index": torch.arange(number),
    }


def cut(batch: Batch, sizes: Sequence[int]) -> list[Batch]:
    parts = {name: tensor.split(list(sizes)) for name, tensor in batch.items()}
    return [{name: parts[name][k] for name in parts} for k in range(len(sizes))]


def take_step(tmp_path: Path, group: list[Batch], prior: Prior) -> tuple[list[torch.Tensor], float]:
    """The gradients that a step over the group has taken, and its loss."""
    step = build_loop(tmp_path).step
    step.loss = build_loss(prior, counts=COUNTS, label_smoothing=0.0, device=CPU)
    step.max_grad_norm = 1e9
    still(step.model)
    step.model.body[1].eval()  # batch norm sees each batch by itself, whatever the loss
    num_images = sum(len(batch["target"]) for batch in group)
    rates = {"learning_rate": 1e-3, "margin_rad": 0.1}
    outcome = step.take(group, number=0, num_images=num_images, seed=7, **rates)
    gradients = [p.grad.clone() for p in step.model.parameters() if p.grad is not None]
    return gradients, float(outcome.loss)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.kind)
@pytest.mark.parametrize(
    "sizes", [[16] * 4, pytest.param([20, 20, 20, 4], id="test_incident_T5"), [1] * 64]
)
def test_reported_a_step_takes_the_gradient_of_the_whole_batch(
    tmp_path: Path, prior: Prior, sizes: list[int]
) -> None:
    whole = images(64)
    expected, loss = take_step(tmp_path, [whole], prior)
    gradients, summed = take_step(tmp_path, cut(whole, sizes), prior)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-6)
    assert summed == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.kind)
def test_a_step_of_one_batch_has_its_mean_loss_to_the_bit(prior: Prior) -> None:
    loss = build_loss(prior, counts=COUNTS, label_smoothing=0.0, device=CPU)
    shares = loss.shares([images(64)["target"]], num_images=64, team=ALONE)
    assert [float(share) for share in shares] == [1.0]
