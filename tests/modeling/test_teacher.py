import math

import pytest
import torch
from shipped import shipped
from torch.nn import functional

from stages.config import Teacher as Section
from stages.modeling.teacher import Teacher, build_teacher

SECTION = shipped(Section, backbone="test_resnet", embedding_size=16, dropout=0.5)


def test_logits_are_bounded_by_the_scale() -> None:
    teacher = _teacher().eval()
    logits = teacher(torch.randn(4, 3, 64, 64))
    assert logits.shape == (4, 7)
    assert logits.abs().max() <= 30.0 + 1e-4


def test_training_without_margin_is_inference() -> None:
    teacher = _teacher().eval()
    images, targets = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 6])
    plain = teacher.head.training_logits(teacher.embed(images), targets, margin_rad=0.0)
    assert torch.equal(plain, teacher(images))
    widened = teacher.head.training_logits(teacher.embed(images), targets, margin_rad=0.35)
    assert (widened.gather(1, targets[:, None]) < plain.gather(1, targets[:, None])).all()


def test_incident_T2_the_one_head_learns_from_the_first_step() -> None:
    """What warm-up trains, where the margin is still 0, is what is evaluated and exported."""
    teacher = _teacher()
    images, targets = torch.randn(8, 3, 64, 64), torch.arange(8) % 7
    logits = teacher.head.training_logits(teacher.embed(images), targets, margin_rad=0.0)
    functional.cross_entropy(logits, targets).backward()
    learning = {n for n, p in teacher.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"head.weight", "embedding.1.weight"} <= learning
    with torch.no_grad():
        teacher.head.weight.zero_()
    assert not teacher.eval()(images).any()


def test_it_learns_a_handful_of_faces() -> None:
    teacher = _teacher(dropout=0.0)
    images, targets = torch.randn(14, 3, 64, 64), torch.arange(14) % 7
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
    first = math.nan
    for step in range(20):
        loss = functional.cross_entropy(
            teacher.head.training_logits(teacher.embed(images), targets, margin_rad=0.2), targets
        )
        first = loss.item() if step == 0 else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_channels_last_changes_no_logit(backbone) -> None:
    teacher = _teacher(backbone=backbone).eval()
    images = torch.randn(2, 3, 64, 64)
    plain = teacher(images)
    last = teacher.to(memory_format=torch.channels_last)(
        images.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-4)


def _teacher(**changes: object) -> Teacher:
    torch.manual_seed(1)
    section = SECTION.model_copy(update=changes)
    return build_teacher(section, image_size=64, scale=30.0, key="teachers.X")
