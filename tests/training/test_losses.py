"""Losses are those of their papers; steps do not wait for them, and keep nothing unread."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from stages.computing.team import ALONE
from stages.computing.transfer import RUN_AHEAD
from stages.config import ClassWeights, LogitAdjustment, NoCorrection, Prior, SamplerFill
from stages.training.checkpoint import load_checkpoint
from stages.training.losses import Losses, NonFiniteError, Outcome, build_loss
from stages.training.progress import Progress
from stages.training.step import TrainingStep
from tests.training.small_loop import CPU, EPOCHS, NUM_BATCHES, build_loop, final_state, fit

# What `float`, `bool` and `.item()` become: where a GPU would have to be waited for.
READS = torch.ops.aten._local_scalar_dense.default


class NoReads(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not READS, "a tensor was read"
        return func(*args, **(kwargs or {}))


def outcome(number: int, loss: float, *, norm: float = 1.0, may_overflow: bool = False) -> Outcome:
    return Outcome(
        number,
        6,
        0.1,
        loss=torch.tensor(loss),
        gradient_norm=torch.tensor(norm),
        rows=[torch.tensor([number, 10 + number])],
        may_overflow=may_overflow,
    )


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
    outcomes = Losses()
    read = []
    for number in range(5):
        outcomes.add(outcome(number, float(number)))
        read.append(list(outcomes.read(ALONE)))
    assert read == [[]] * RUN_AHEAD + [[(0.0, 6)], [(1.0, 6)], [(2.0, 6)]]
    assert list(outcomes.read(ALONE, behind=0)) == [(3.0, 6), (4.0, 6)]
    assert len(outcomes) == 0


def test_the_first_step_that_is_not_finite_is_the_one_that_is_named() -> None:
    outcomes = Losses()
    for number, loss in enumerate([0.5, float("inf"), float("nan")]):
        outcomes.add(outcome(number, loss))
    with pytest.raises(NonFiniteError, match=r"loss of step 1 is inf .*in this step: \[1, 11\]"):
        list(outcomes.read(ALONE, behind=0))


def test_an_infinite_gradient_is_an_error_unless_the_scaler_skips_it() -> None:
    outcomes = Losses()
    outcomes.add(outcome(0, 0.5, norm=float("inf"), may_overflow=True))
    assert list(outcomes.read(ALONE, behind=0)) == [(0.5, 6)]
    outcomes.add(outcome(1, 0.5, norm=float("inf")))
    with pytest.raises(NonFiniteError, match="the norm of the gradient of step 1 is inf"):
        list(outcomes.read(ALONE, behind=0))


@pytest.mark.parametrize("poison", range(1, NUM_BATCHES + 1))
def test_no_score_and_no_file_comes_of_an_epoch_with_a_loss_that_is_not_finite(
    tmp_path: Path, poison: int
) -> None:
    loop = build_loop(tmp_path, poison=poison, accumulate=1)
    scored = []
    loop = replace(loop, evaluate=lambda model: scored.append(model) or {})
    with pytest.raises(NonFiniteError, match=f"step {poison - 1} is nan"):
        fit(loop)
    assert not scored
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("poison", range(1, NUM_BATCHES + 1))
def test_every_checkpoint_before_a_loss_that_is_not_finite_is_finite(
    tmp_path: Path, poison: int
) -> None:
    with pytest.raises(NonFiniteError):
        fit(build_loop(tmp_path, poison=poison, accumulate=1, checkpoint_seconds=0.0))
    if poison == 1:
        assert load_checkpoint(tmp_path) is None
        return
    state = final_state(tmp_path)
    assert state["progress"]["step"] == poison - 1
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_settling_twice_counts_once(tmp_path: Path) -> None:
    loop, progress = build_loop(tmp_path), Progress()
    for _ in loop.steps(progress):
        pass
    before = progress.loss_sum
    loop.settle(progress)
    assert progress.loss_sum == before > 0


COUNTS = np.array([100, 10, 20, 800, 300, 200, 1000])


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(32, 7, generator=generator), torch.randint(7, (32,), generator=generator)


@pytest.mark.parametrize(
    "prior",
    [
        NoCorrection(kind="none"),
        SamplerFill(kind="sampler_fill", min_per_class=2),
        LogitAdjustment(kind="logit_adjustment", tau=0.5),
        ClassWeights(kind="class_weights", beta=0.9),
        # Near 1, weights are inverse frequencies.
        ClassWeights(kind="class_weights", beta=1 - 1e-9),
    ],
    ids=lambda prior: prior.kind,
)
def test_a_correction_is_what_its_paper_states(prior: Prior, batch) -> None:  # type: ignore[no-untyped-def]
    logits, targets = batch
    weight = None
    if isinstance(prior, LogitAdjustment):
        logits = logits + 0.5 * torch.tensor(np.log(COUNTS / COUNTS.sum()), dtype=torch.float32)
    if isinstance(prior, ClassWeights):
        by_hand = [(1 - prior.beta) / (1 - prior.beta**n) for n in COUNTS.tolist()]
        if prior.beta > 0.99:
            by_hand = [1 / n for n in COUNTS.tolist()]
        weight = torch.tensor(by_hand) / np.mean(by_hand)
    loss = build_loss(prior, counts=COUNTS, label_smoothing=0.0, device=CPU)
    expected = F.cross_entropy(logits, targets, weight=weight)
    torch.testing.assert_close(loss(*batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "prior",
    [
        LogitAdjustment(kind="logit_adjustment", tau=1.0),
        ClassWeights(kind="class_weights", beta=1 - 1e-9),
        NoCorrection(kind="none"),
    ],
    ids=lambda prior: prior.kind,
)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_reported_smoothing_with_a_correction_favours_the_rarest_class(
    prior: Prior, label_smoothing: float
) -> None:
    """What a picture that says nothing is best called; the params check refuses the two together.

    Corrected, all classes should be as likely; .1 of smoothing makes the rarest win.
    """
    targets = torch.repeat_interleave(torch.arange(7), torch.tensor(COUNTS))
    loss = build_loss(prior, counts=COUNTS, label_smoothing=label_smoothing, device=CPU)
    logits = torch.zeros(7, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def close() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits.expand(len(targets), 7), targets)
        value.backward()
        return value

    optimizer.step(close)
    found = logits.detach().softmax(0).numpy()
    if prior.kind == "none":
        assert found.argmax() == COUNTS.argmax()
    elif label_smoothing == 0:
        np.testing.assert_allclose(found, np.full(7, 1 / 7), atol=2e-3)
    else:
        assert found.argmax() == COUNTS.argmin()
        assert found.max() > 0.25
