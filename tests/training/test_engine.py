"""The loop: a run that is stopped anywhere ends in the same bits, and its record tells the truth."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.config import NoCorrection
from stages.runtime.errors import InterruptedRunError, UserError
from stages.runtime.signals import StopRequest
from stages.training.checkpoint import load_checkpoint
from stages.training.engine import Engine, Plan
from stages.training.machinery import Batch, Machinery
from stages.training.optimization import build_average, build_optimizer
from stages.training.prior import build_loss
from stages.training.progress import remove_superseded
from stages.training.schedule import CosineSchedule

NUM_BATCHES, BATCH_SIZE, EPOCHS = 5, 6, 3
CPU = torch.device("cpu")


class Learner(nn.Module):
    """A small network with everything that carries state: dropout, batch norm, a margin."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return logits

    def training_logits(self, images: Tensor, targets: Tensor, *, margin_rad: float) -> Tensor:
        return self(images) - margin_rad * nn.functional.one_hot(targets, 7)


class SyntheticBatches:
    """Batches that depend on (epoch, batch) alone; the last of an epoch is smaller."""

    num_batches = NUM_BATCHES

    def __init__(self, stop: StopRequest, *, stop_after: int = -1, poison: int = -1) -> None:
        self.stop, self.stop_after, self.poison = stop, stop_after, poison
        self.served = 0

    def epoch(self, epoch: int, *, start_batch: int) -> Iterator[Batch]:
        for number in range(start_batch, NUM_BATCHES):
            if self.served == self.stop_after:
                self.stop.signal_number = signal.SIGTERM
            self.served += 1
            generator = torch.Generator().manual_seed(1000 * epoch + number)
            size = BATCH_SIZE if number < NUM_BATCHES - 1 else 3
            images = torch.randn(size, 3, 8, 8, generator=generator)
            if self.served == self.poison:
                images[0] = float("nan")
            yield {
                "image": images,
                "target": torch.randint(7, (size,), generator=generator),
                "index": torch.arange(size) + 100 * number,
            }


def evaluate(model: nn.Module) -> dict[str, float]:
    model.eval()
    with torch.inference_mode():
        logits = model(torch.ones(4, 3, 8, 8))
    return {"n": 4, "macro_f1": float(logits.std()), "accuracy": 0.5, "nll": float(logits.mean())}


def engine(folder: Path, **options: Any) -> Engine:
    torch.manual_seed(0)
    model = Learner()
    stop = StopRequest()
    machinery = Machinery(
        model=model,
        training_logits=model.training_logits,
        optimizer=build_optimizer(model, "adamw", learning_rate=1e-2, weight_decay=0.05),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        loss=build_loss(
            NoCorrection(kind="none"), counts=torch.ones(7).numpy(), label_smoothing=0.0, device=CPU
        ),
        average=build_average(model, decay=0.9),
        max_grad_norm=5.0,
        device=CPU,
        dtype=torch.float32,
    )
    accumulate = options.pop("accumulate", 2)
    steps = EPOCHS * -(-NUM_BATCHES // accumulate)
    plan = Plan(
        seed=7, epochs=EPOCHS, accumulate=accumulate, eval_every=options.pop("eval_every", 1),
        select_by=options.pop("select_by", "macro_f1"), checkpoint_seconds=options.pop("checkpoint_seconds", 1e9),
        schedule=CosineSchedule(peak=1e-2, floor=1e-3, warmup_steps=2, total_steps=steps),
        margin_at=lambda epoch: 0.1 * epoch,
    )  # fmt: skip
    return Engine(machinery, plan, SyntheticBatches(stop, **options), evaluate, folder, stop)


def final_state(folder: Path) -> dict[str, Any]:
    state = load_checkpoint(folder)
    assert state is not None
    for record in state["progress"]["history"]:
        del record["rate_img_s"], record["data_wait_share"]
    return state


@pytest.mark.parametrize("checkpoint_seconds", [1e9, 0.0])
@pytest.mark.parametrize("stop_after", [1, 4, 7])
def test_incident_R8_a_run_stopped_anywhere_ends_in_the_same_bits(
    tmp_path: Path, stop_after: int, checkpoint_seconds: float
) -> None:
    engine(tmp_path / "whole").fit()
    interrupted = tmp_path / "interrupted"
    with pytest.raises(InterruptedRunError, match="signal 15"):
        engine(interrupted, stop_after=stop_after, checkpoint_seconds=checkpoint_seconds).fit()
    engine(interrupted).fit()
    whole, resumed = final_state(tmp_path / "whole"), final_state(interrupted)
    for part in ("model", "average"):
        for name, tensor in whole[part].items():
            assert torch.equal(tensor, resumed[part][name]), name
    assert whole["progress"]["history"] == resumed["progress"]["history"]
    assert whole["progress"]["best"] == resumed["progress"]["best"]
    best = whole["progress"]["best"]["file"]
    assert (tmp_path / "whole" / best).read_bytes() == (interrupted / best).read_bytes()


def test_incident_R1_history_survives_a_resume(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        engine(tmp_path, stop_after=7).fit()
    progress = engine(tmp_path).fit()
    assert [record["epoch"] for record in progress.history] == [1, 2, 3]


def test_incident_R2_the_checkpoint_knows_the_best_of_its_epoch(tmp_path: Path) -> None:
    progress = engine(tmp_path).fit()
    best = max(progress.history, key=lambda record: record["val"]["macro_f1"])
    assert final_state(tmp_path)["progress"]["best"]["val"] == best["val"]


def test_incident_R10_a_checkpoint_by_the_clock_saves_the_middle_of_an_epoch(
    tmp_path: Path,
) -> None:
    poisoned = engine(tmp_path, checkpoint_seconds=0.0, poison=4)
    with pytest.raises(UserError, match="the loss of step 1 is nan"):
        poisoned.fit()
    assert final_state(tmp_path)["progress"]["batch"] == 2


def test_a_non_finite_loss_names_its_rows_and_keeps_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        UserError, match=r"step 3 is nan .* rows of the training set in this step: \[0, 1, 2"
    ):
        engine(tmp_path, poison=NUM_BATCHES + 1).fit()
    state = final_state(tmp_path)
    assert state["progress"]["epoch"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


def test_an_infinite_gradient_of_a_finite_loss_stops_before_it_is_taken(tmp_path: Path) -> None:
    broken = engine(tmp_path)
    weight = broken.machinery.model.body[0].weight
    before = weight.detach().clone()
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(UserError, match="the norm of the gradient of step 0 is"):
        broken.fit()
    assert torch.equal(weight, before)


def test_best_weights_of_epochs_that_no_checkpoint_names_are_dropped_by_name(
    tmp_path: Path,
) -> None:
    for epoch in (1, 3, 5, 6, 7):
        (tmp_path / f"best-{epoch:04d}.safetensors").touch()
    remove_superseded(
        tmp_path, best={"file": "best-0005.safetensors", "before": "best-0003.safetensors"}
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best-0003.safetensors",
        "best-0005.safetensors",
    ]


def test_incident_T5_the_remainder_of_an_accumulation_is_a_step(tmp_path: Path) -> None:
    progress = engine(tmp_path, accumulate=2).fit()
    assert progress.step == EPOCHS * 3


def test_incident_T5_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    def gradients(group: list[Batch]) -> list[Tensor]:
        machinery = engine(tmp_path).machinery
        machinery.model.eval()  # batch statistics and dropout differ between one batch and two
        machinery._backward(group, margin_rad=0.1)
        return [p.grad for p in machinery.model.parameters() if p.grad is not None]

    batches = list(SyntheticBatches(StopRequest()).epoch(0, start_batch=NUM_BATCHES - 2))
    joined = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    for apart, together in zip(gradients(batches), gradients([joined]), strict=True):
        torch.testing.assert_close(apart, together)


def test_incident_T6_the_last_epoch_is_always_evaluated(tmp_path: Path) -> None:
    progress = engine(tmp_path, eval_every=2).fit()
    assert [record["val"] is not None for record in progress.history] == [False, True, True]


def test_incident_T7_a_finished_run_says_that_nothing_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine(tmp_path).fit()
    with caplog.at_level("INFO"):
        progress = engine(tmp_path).fit()
    assert "nothing to train: all 3 epochs of this run are done" in caplog.text
    assert len(progress.history) == EPOCHS


def test_nll_is_better_when_it_is_lower(tmp_path: Path) -> None:
    progress = engine(tmp_path, select_by="nll").fit()
    lowest = min(record["val"]["nll"] for record in progress.history)
    assert progress.best["val"]["nll"] == lowest


def test_golden_losses_of_a_small_run(tmp_path: Path) -> None:
    losses = [record["train_loss"] for record in engine(tmp_path).fit().history]
    assert losses == pytest.approx(GOLDEN, rel=1e-4)


GOLDEN = [1.9938376, 2.0440359, 2.1566020]
