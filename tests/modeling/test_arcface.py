import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ArcFaceLoss
from shipped import shipped
from torch.nn import functional

from stages.config import Arcface
from stages.modeling.arcface import ArcfaceHead, margin_at

SCALE = 30.0


def _head(*, dtype: torch.dtype = torch.float64) -> ArcfaceHead:
    torch.manual_seed(1)
    return ArcfaceHead(6, num_classes=7, scale=SCALE).to(dtype)


def _at_angle(head: ArcfaceHead, theta: float) -> torch.Tensor:
    """An embedding (1, E) at the angle theta from the direction of class 0."""
    direction = functional.normalize(head.weight.detach()[0], dim=0)
    other = torch.randn(len(direction), dtype=direction.dtype)
    across = functional.normalize(other - (other @ direction) * direction, dim=0)
    return (math.cos(theta) * direction + math.sin(theta) * across).unsqueeze(0)


@given(st.floats(0.001, 3.14), st.floats(0, 1.4))
def test_the_targets_angle_is_widened_and_no_other(theta, margin_rad) -> None:
    head = _head()
    embedding = 5 * _at_angle(head, theta)
    plain = head(embedding)[0]
    widened = head.training_logits(embedding, torch.tensor([0]), margin_rad=margin_rad)[0]
    assert torch.equal(plain[1:], widened[1:])
    assert plain[0].item() == pytest.approx(SCALE * math.cos(theta), abs=1e-6)
    if theta + margin_rad < math.pi:
        assert widened[0].item() == pytest.approx(SCALE * math.cos(theta + margin_rad), abs=1e-6)


@pytest.mark.parametrize("margin_rad", [0.1, 0.35, 0.5, 1.4])
def test_the_targets_logit_falls_with_its_angle_up_to_pi(margin_rad) -> None:
    head = _head()
    target = torch.tensor([0])
    logits = [
        head.training_logits(_at_angle(head, theta), target, margin_rad=margin_rad)[0, 0].item()
        for theta in np.linspace(0.01, math.pi - 0.01, 60)
    ]
    assert all(before > after for before, after in itertools.pairwise(logits))


@pytest.mark.parametrize("degrees", [0.0, 10.0, 28.6, 57.3])
def test_loss_and_gradients_agree_with_pytorch_metric_learning(degrees) -> None:
    """Its margin is in degrees. The embeddings include some beyond theta + margin = pi."""
    head = _head()
    oracle = ArcFaceLoss(7, 6, margin=degrees, scale=SCALE).double()
    oracle.W.data = head.weight.data.T.clone()
    past_pi = [_at_angle(head, theta) for theta in (2.0, 2.7, 3.0, 3.1)]
    embedding = torch.cat([torch.randn(200, 6, dtype=torch.float64), *past_pi]).requires_grad_()
    targets = torch.cat([torch.arange(200) % 7, torch.zeros(4, dtype=torch.int64)])

    logits = head.training_logits(embedding, targets, margin_rad=math.radians(degrees))
    ours = functional.cross_entropy(logits, targets)
    theirs = oracle(embedding, targets)

    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    own, reference = (torch.autograd.grad(loss, embedding)[0] for loss in (ours, theirs))
    torch.testing.assert_close(own, reference, rtol=1e-4, atol=1e-7)


def test_each_class_is_widened_by_its_share_and_a_whole_share_is_its_class() -> None:
    head, shares = _head(), torch.tensor([[0.6, 0.4, 0, 0, 0, 0, 0]], dtype=torch.float64)
    for theta in (0.3, 1.5, 2.9):
        embedding = _at_angle(head, theta)
        angles = (head(embedding)[0] / SCALE).acos()
        widened = head.training_logits(embedding, shares, margin_rad=0.5)[0] / SCALE
        expected = (angles + 0.5 * shares[0]).cos()
        inside = angles + 0.5 * shares[0] < math.pi
        torch.testing.assert_close(widened[inside], expected[inside])
    embedding, classes = torch.randn(9, 6), torch.arange(9) % 7
    whole = functional.one_hot(classes, 7).float()
    head = head.float()
    both = [head.training_logits(embedding, t, margin_rad=0.35) for t in (classes, whole)]
    assert torch.equal(*both)


@pytest.mark.parametrize("margin_rad", [0.0, 0.35])
@pytest.mark.parametrize("is_voted", [False, True])
def test_gradcheck(margin_rad, is_voted) -> None:
    head = _head()
    embedding = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 6, 6])
    if is_voted:
        targets = torch.rand(5, 7, dtype=torch.float64).softmax(dim=1)

    def logits(embedding: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        head.weight = weight
        return head.training_logits(embedding, targets, margin_rad=margin_rad)

    weight = head.weight.detach().requires_grad_()
    del head.weight
    assert torch.autograd.gradcheck(logits, (embedding, weight))


def test_gradients_are_finite_where_the_angle_is_0_or_pi() -> None:
    head = _head(dtype=torch.float32)
    direction = head.weight.detach()[:1]
    embedding = torch.cat([direction, -direction]).requires_grad_()
    targets = torch.tensor([0, 0])
    head.training_logits(embedding, targets, margin_rad=0.35).sum().backward()
    assert embedding.grad is not None
    assert embedding.grad.isfinite().all()
    assert head.weight.grad is not None
    assert head.weight.grad.isfinite().all()


def test_logits_are_float32_and_exact_inside_autocast() -> None:
    head = _head(dtype=torch.float32)
    embedding, targets = torch.randn(50, 6).bfloat16(), torch.arange(50) % 7
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = head.training_logits(embedding, targets, margin_rad=0.35)
    assert inside.dtype == torch.float32
    outside = head.training_logits(embedding.float(), targets, margin_rad=0.35)
    assert torch.equal(inside, outside)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 0.0), (4.99, 0.0), (5, 0.0), (7.5, 0.1), (10, 0.2), (14.9, 0.396), (15, 0.4), (60, 0.4)],
)
def test_the_margin_waits_ramps_and_stays(epoch, expected) -> None:
    arcface = shipped(Arcface, margin_rad=0.4, warmup_epochs=5, ramp_end_epoch=15)
    assert margin_at(epoch, arcface) == pytest.approx(expected)
    without_ramp = shipped(Arcface, margin_rad=0.4, warmup_epochs=2, ramp_end_epoch=2)
    assert [margin_at(epoch, without_ramp) for epoch in (1.9, 2.0)] == [0.0, 0.4]
