"""Losses are those of their papers; steps take their whole gradient and do not wait for them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from stages.computing.team import ALONE
from stages.computing.transfer import RUN_AHEAD
from stages.config import ClassWeights, LogitAdjustment, Prior, SamplerFill
from stages.training.losses import (
    Loss,
    Losses,
    NonFiniteError,
    Outcome,
    build_loss,
    prior_correction,
)
from stages.training.step import Batch, TrainingStep
from tests.training.small_loop import (
    CPU,
    EPOCHS,
    NONE,
    NUM_BATCHES,
    build_loop,
    final_state,
    fit,
)

COUNTS = np.array([100, 10, 20, 800, 300, 200, 1000])
ADJUSTMENT = LogitAdjustment(kind="logit_adjustment", tau=0.5)
WEIGHTS = ClassWeights(kind="class_weights", beta=0.99)
FILL = SamplerFill(kind="sampler_fill", min_per_class=2)
each_prior = pytest.mark.parametrize(
    "prior", [NONE, FILL, ADJUSTMENT, WEIGHTS], ids=lambda prior: prior.kind
)
# What `float`, `bool` and `.item()` become: where a GPU would have to be waited for.
READS = torch.ops.aten._local_scalar_dense.default


class NoReads(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not READS, "a tensor was read"
        return func(*args, **(kwargs or {}))


def read_outcomes(*losses: float, norm: float = 1.0, may_overflow: bool = False, behind: int = 0):
    """What is read after each of the steps with these losses."""
    outcomes = Losses()
    for number, loss in enumerate(losses):
        values = {"loss": torch.tensor(loss), "gradient_norm": torch.tensor(norm)}
        rows = [torch.tensor([number, 10 + number])]
        outcomes.add(Outcome(number, 6, 0.1, **values, rows=rows, may_overflow=may_overflow))
        if behind:
            yield list(outcomes.read(ALONE, behind=behind))
    yield list(outcomes.read(ALONE, behind=0))
    assert len(outcomes) == 0


def test_a_step_reads_nothing_from_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, taken = TrainingStep.take, []

    def watched(step: TrainingStep, *args, **options) -> Outcome:
        with NoReads():
            taken.append(take(step, *args, **options))
        return taken[-1]

    monkeypatch.setattr(TrainingStep, "take", watched)
    loop = build_loop(tmp_path)
    # A GPU's optimizer: the one of a CPU counts its steps in a tensor that it reads.
    for group in loop.step.optimizer.param_groups:
        group["fused"] = True
    fit(loop)
    assert len(taken) == EPOCHS * 3


def test_outcomes_are_read_in_order_a_few_steps_behind() -> None:
    *early, last = read_outcomes(0.0, 1.0, 2.0, 3.0, behind=RUN_AHEAD)
    assert early == [[]] * RUN_AHEAD + [[(0.0, 6)], [(1.0, 6)]]
    assert last == [(2.0, 6), (3.0, 6)]


def test_the_first_step_that_is_not_finite_is_the_one_that_is_named() -> None:
    with pytest.raises(NonFiniteError, match=r"loss of step 1 is inf .*in this step: \[1, 11\]"):
        list(read_outcomes(0.5, float("inf"), float("nan")))
    # The scaler of float16 skips such a step.
    assert list(read_outcomes(0.5, norm=float("inf"), may_overflow=True)) == [[(0.5, 6)]]
    with pytest.raises(NonFiniteError, match="the norm of the gradient of step 0 is inf") as caught:
        list(read_outcomes(0.5, norm=float("inf")))
    assert caught.value.record == {
        "step": 0,
        "loss": "0.5",
        "gradient_norm": "inf",
        "learning_rate": 0.1,
    }


@pytest.mark.parametrize("poison", [3, NUM_BATCHES])
def test_incident_R10_the_clock_keeps_what_comes_before_a_loss_that_is_not_finite(
    tmp_path: Path, poison: int
) -> None:
    loop = build_loop(tmp_path, poison=poison, accumulate=1, checkpoint_seconds=0.0)
    scored = []
    loop = replace(loop, evaluate=lambda model: scored.append(model) or {})
    with pytest.raises(NonFiniteError, match=f"the loss of step {poison - 1} is nan"):
        fit(loop)
    assert not scored
    state = final_state(tmp_path)
    assert state["progress"]["step"] == state["progress"]["batch"] == poison - 1
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def take_step(tmp_path: Path, group: list[Batch], prior: Prior) -> tuple[list[Tensor], float]:
    """The gradients that a step over the group has taken, and its loss."""
    step = build_loop(tmp_path, dropout=0.0).step
    step.loss = build_loss(prior, counts=COUNTS, label_smoothing=0.0, device=CPU)
    step.max_grad_norm = 1e9
    step.model.body[1].eval()  # batch norm sees each batch by itself, whatever the loss
    num_images = sum(len(batch["target"]) for batch in group)
    rates = {"learning_rate": 1e-3, "margin_rad": 0.1}
    outcome = step.take(group, number=0, num_images=num_images, seed=7, **rates)
    gradients = [p.grad.clone() for p in step.model.parameters() if p.grad is not None]
    return gradients, float(outcome.loss)


@each_prior
@pytest.mark.parametrize("sizes", [[20, 20, 20, 4], [1] * 64])
@pytest.mark.parametrize("is_voted", [False, True])
def test_reported_a_step_takes_the_gradient_of_the_whole_batch(
    tmp_path: Path, prior: Prior, sizes: Sequence[int], is_voted: bool
) -> None:
    generator, shares = torch.Generator().manual_seed(5), torch.tensor(COUNTS / COUNTS.sum())
    whole = {
        "image": torch.randn(64, 3, 8, 8, generator=generator),
        "target": torch.multinomial(shares, 64, replacement=True, generator=generator),
        "index": torch.arange(64),
    }
    if is_voted:
        whole["target"] = torch.randn(64, 7, generator=generator).softmax(dim=1)
    parts = zip(*(tensor.split(sizes) for tensor in whole.values()), strict=True)
    expected, loss = take_step(tmp_path, [whole], prior)
    gradients, summed = take_step(
        tmp_path, [dict(zip(whole, p, strict=True)) for p in parts], prior
    )
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-6)
    assert summed == pytest.approx(loss, rel=1e-5)


@each_prior
def test_shares_are_learnt_as_their_mean_over_classes_and_a_whole_share_as_its_class(prior: Prior):
    """The mean divides by the weights of the shares, which torch's own soft targets do not."""
    loss = build_loss(prior, counts=COUNTS, label_smoothing=0.0, device=CPU)
    logits = 3 * torch.randn(333, 7, generator=torch.Generator().manual_seed(1))
    classes = torch.arange(333) ** 2 % 7
    whole = F.one_hot(classes, 7).float()
    assert torch.equal(loss(logits, whole), loss(logits, classes))
    logits.requires_grad_()
    by_share, by_class = (torch.autograd.grad(loss(logits, t), logits)[0] for t in (whole, classes))
    torch.testing.assert_close(by_share, by_class, rtol=1e-6, atol=1e-9)
    shares = torch.rand(333, 7, generator=torch.Generator().manual_seed(2)).softmax(dim=1)
    weight = torch.ones(7) if loss.weight is None else loss.weight
    rows = -(weight * shares * (logits + loss.offset).log_softmax(dim=1)).sum(dim=1)
    expected = rows.sum() / (weight * shares).sum()
    torch.testing.assert_close(loss(logits, shares), expected)
    parts = loss.shares([shares[:100], shares[100:]], num_images=333, team=ALONE)
    halves = [loss(logits[:100], shares[:100]), loss(logits[100:], shares[100:])]
    summed = sum(half * part for half, part in zip(halves, parts, strict=True))
    torch.testing.assert_close(summed, expected)


@pytest.mark.parametrize("beta", [0.9, 1 - 1e-9])
def test_a_correction_is_what_its_paper_states(beta: float) -> None:
    build = partial(build_loss, counts=COUNTS, label_smoothing=0.0, device=CPU)
    expected = 0.5 * np.log(COUNTS / COUNTS.sum())
    np.testing.assert_allclose(build(ADJUSTMENT).offset, expected, rtol=1e-5)
    # Near a beta of 1, weights are inverse frequencies.
    expected = 1 / COUNTS if beta > 0.9 else (1 - beta) / (1 - beta**COUNTS)
    weight = build(ClassWeights(kind="class_weights", beta=beta)).weight
    np.testing.assert_allclose(weight, expected / expected.mean(), rtol=1e-5)


def learn_one_row(loss: Loss, *, counts: np.ndarray) -> Tensor:
    """Learn the logits (7,) of a model that sees nothing, on so many rows of each class."""
    targets = torch.repeat_interleave(torch.arange(7), torch.tensor(counts))
    logits = torch.zeros(7, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def close() -> Tensor:
        optimizer.zero_grad()
        value = loss(logits.expand(len(targets), 7), targets)
        value.backward()
        return value

    optimizer.step(close)
    return logits.detach()


@each_prior
def test_incident_N9_the_recorded_correction_gives_the_shares_of_the_training_rows(prior: Prior):
    """A model that sees nothing learns one row of logits; with the correction it says the shares."""
    shown = np.maximum(COUNTS, 150) if isinstance(prior, SamplerFill) else COUNTS
    loss = build_loss(prior, counts=shown, label_smoothing=0.0, device=CPU)
    logits = learn_one_row(loss, counts=shown)
    correction = prior_correction(prior, counts=COUNTS, shown_counts=shown)
    shares = torch.softmax(logits + torch.tensor(correction), dim=0).numpy()
    np.testing.assert_allclose(shares, COUNTS / COUNTS.sum(), rtol=0.02)
    assert (not any(correction)) == (prior is NONE)
