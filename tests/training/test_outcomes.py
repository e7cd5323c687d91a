"""Steps do not wait for what they come to, and what they came to is known before it is kept."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stages.computing.team import ALONE
from stages.computing.transfer import RUN_AHEAD
from stages.training.checkpoint import load_checkpoint
from stages.training.machinery import Machinery
from stages.training.outcomes import NonFiniteError, Outcome, Outcomes
from stages.training.progress import Progress
from tests.training.small_engine import EPOCHS, NUM_BATCHES, build_engine, final_state, fit

# What `float`, `bool` and `.item()` become: where a GPU would have to be waited for.
READS = torch.ops.aten._local_scalar_dense.default


class NoReads(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not READS, "a tensor was read"
        return func(*args, **(kwargs or {}))


def outcome(number: int, loss: float, *, norm: float = 1.0, may_overflow: bool = False) -> Outcome:
    return Outcome(
        number, 6, 0.1, loss=torch.tensor(loss), gradient_norm=torch.tensor(norm),
        rows=[torch.tensor([number, 10 + number])], may_overflow=may_overflow,
    )  # fmt: skip


def test_a_step_reads_nothing_from_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, taken = Machinery.step, []

    def watched(machinery: Machinery, *args, **options) -> Outcome:
        with NoReads():
            taken.append(step(machinery, *args, **options))
        return taken[-1]

    monkeypatch.setattr(Machinery, "step", watched)
    engine = build_engine(tmp_path)
    # A GPU's optimizer: the one of a CPU counts its steps in a tensor that it reads.
    for group in engine.machinery.optimizer.param_groups:
        group["fused"] = True
    fit(engine)
    assert len(taken) == EPOCHS * 3


def test_outcomes_are_read_in_order_a_few_steps_behind() -> None:
    outcomes = Outcomes()
    read = []
    for number in range(5):
        outcomes.add(outcome(number, float(number)))
        read.append(list(outcomes.read(ALONE)))
    assert read == [[]] * RUN_AHEAD + [[(0.0, 6)], [(1.0, 6)], [(2.0, 6)]]
    assert list(outcomes.read(ALONE, behind=0)) == [(3.0, 6), (4.0, 6)]
    assert len(outcomes) == 0


def test_the_first_step_that_is_not_finite_is_the_one_that_is_named() -> None:
    outcomes = Outcomes()
    for number, loss in enumerate([0.5, float("inf"), float("nan")]):
        outcomes.add(outcome(number, loss))
    with pytest.raises(NonFiniteError, match=r"loss of step 1 is inf .*in this step: \[1, 11\]"):
        list(outcomes.read(ALONE, behind=0))


def test_an_infinite_gradient_is_an_error_unless_the_scaler_skips_it() -> None:
    outcomes = Outcomes()
    outcomes.add(outcome(0, 0.5, norm=float("inf"), may_overflow=True))
    assert list(outcomes.read(ALONE, behind=0)) == [(0.5, 6)]
    outcomes.add(outcome(1, 0.5, norm=float("inf")))
    with pytest.raises(NonFiniteError, match="the norm of the gradient of step 1 is inf"):
        list(outcomes.read(ALONE, behind=0))


@pytest.mark.parametrize("poison", range(1, NUM_BATCHES + 1))
def test_no_score_and_no_file_comes_of_an_epoch_with_a_loss_that_is_not_finite(
    tmp_path: Path, poison: int
) -> None:
    engine = build_engine(tmp_path, poison=poison, accumulate=1)
    scored = []
    engine = replace(engine, evaluate=lambda model: scored.append(model) or {})
    with pytest.raises(NonFiniteError, match=f"step {poison - 1} is nan"):
        fit(engine)
    assert not scored
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("poison", range(1, NUM_BATCHES + 1))
def test_every_checkpoint_before_a_loss_that_is_not_finite_is_finite(
    tmp_path: Path, poison: int
) -> None:
    with pytest.raises(NonFiniteError):
        fit(build_engine(tmp_path, poison=poison, accumulate=1, checkpoint_seconds=0.0))
    if poison == 1:
        assert load_checkpoint(tmp_path) is None
        return
    state = final_state(tmp_path)
    assert state["progress"]["step"] == poison - 1
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_the_losses_of_a_line_are_those_of_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, int]] = []
    monkeypatch.setattr("stages.training.pace.LINE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(
        "stages.training.engine.PaceLine.log",
        lambda _, sums: seen.append((sums.loss_sum, sums.images)),
    )
    steps: list[Outcome] = []
    step = Machinery.step
    monkeypatch.setattr(
        Machinery,
        "step",
        lambda *args, **options: steps.append(step(*args, **options)) or steps[-1],
    )
    fit(build_engine(tmp_path))
    sums = list(running_sums(steps[:3]))
    assert seen[:3] == sums


def running_sums(steps: list[Outcome]) -> Iterator[tuple[float, int]]:
    loss_sum, images = 0.0, 0
    for taken in steps:
        loss_sum += float(taken.loss) * taken.num_images
        images += taken.num_images
        yield loss_sum, images


def test_settling_twice_counts_once(tmp_path: Path) -> None:
    engine, progress = build_engine(tmp_path), Progress()
    for _ in engine.steps(progress):
        pass
    before = progress.loss_sum
    engine.settle(progress)
    assert progress.loss_sum == before > 0
