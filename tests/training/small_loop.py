"""A small network, synthetic batches and the loop that trains them in a blink."""

import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from shipped import PARAMS
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from stages.config import NoCorrection
from stages.runtime.signals import StopRequest
from stages.training.checkpoint import load_checkpoint
from stages.training.loop import CosineSchedule, Loop
from stages.training.losses import build_loss
from stages.training.preflight import preflight
from stages.training.progress import CLOCK_KEYS, Progress
from stages.training.session import Session
from stages.training.step import Batch, TrainingPath, TrainingStep, build_optimizer, by_decay

NUM_BATCHES, BATCH_SIZE, EPOCHS = 5, 6, 3
CPU = torch.device("cpu")
NONE = NoCorrection(kind="none")


class Learner(nn.Module):
    """A small network with everything that carries state: dropout and batch norm."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        parts = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(dropout)
        self.body = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return logits


def lower_target(logits: Tensor, targets: Tensor, *, margin_rad: float) -> Tensor:
    """Logits that are lower on the target by the margin."""
    shares = targets[:, None] == torch.arange(7) if targets.ndim == 1 else targets
    return logits - margin_rad * shares.float()


class SyntheticBatches:
    """Batches that depend on (epoch, batch) alone; the last of an epoch is smaller."""

    sizes = (*[BATCH_SIZE] * (NUM_BATCHES - 1), 3)
    finish = dict

    def __init__(self, stop: StopRequest, *, stop_after: int = -1, poison: int = -1) -> None:
        self.stop, self.stop_after, self.poison = stop, stop_after, poison
        self.served = 0

    def share_seen(self, _epoch: int) -> float:
        return 1.0

    def epoch(self, epoch: int, *, start_batch: int) -> Iterator[Batch]:
        for number in range(start_batch, NUM_BATCHES):
            if self.served == self.stop_after:
                self.stop.signal_number = signal.SIGTERM
            self.served += 1
            generator = torch.Generator().manual_seed(1000 * epoch + number)
            size = self.sizes[number]
            images = torch.randn(size, 3, 8, 8, generator=generator)
            if self.served == self.poison:
                images[0] = float("nan")
            yield {
                "image": images,
                "target": torch.randint(7, (size,), generator=generator),
                "index": torch.arange(size) + 100 * number,
            }


class ValBatches(list[Batch]):
    """The batches of an evaluation."""

    finish = dict


# An evaluation of 27 rows in 5 batches.
VAL = ValBatches(SyntheticBatches(StopRequest()).epoch(9, start_batch=0))


def evaluate(model: nn.Module) -> dict[str, float]:
    model.eval()
    with torch.inference_mode():
        logits = model(torch.ones(4, 3, 8, 8))
    return {"n": 4, "macro_f1": float(logits.std()), "accuracy": 0.5, "nll": float(logits.mean())}


def build_loop(
    folder: Path,
    *,
    stop_after: int = -1,
    poison: int = -1,
    accumulate: int = 2,
    dropout: float = 0.5,
    **plan: Any,
) -> Loop:
    torch.manual_seed(0)
    model, stop = Learner(dropout), StopRequest()
    step = TrainingStep(
        path=TrainingPath(model, embed=model.forward, head_logits=lower_target),
        optimizer=build_optimizer(by_decay(model.parameters(), weight_decay=0.05), "adamw"),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        loss=build_loss(NONE, counts=torch.ones(7).numpy(), label_smoothing=0.0, device=CPU),
        average=ModelEmaV3(model, decay=0.9, use_warmup=True),
        max_grad_norm=5.0,
        device=CPU,
        dtype=torch.float32,
    )
    steps = EPOCHS * -(-NUM_BATCHES // accumulate)
    defaults = {
        "seed": 7,
        "epochs": EPOCHS,
        "accumulate": accumulate,
        "eval_every": 1,
        "select_by": "macro_f1",
        "checkpoint_seconds": 1e9,
        "schedule": CosineSchedule(peak=1e-2, floor=1e-3, warmup_steps=2, total_steps=steps),
        "margin_at": lambda epoch: 0.1 * epoch,
    }
    batches = SyntheticBatches(stop, stop_after=stop_after, poison=poison)
    return Loop(step, batches, evaluate, folder, stop, **defaults | plan)


def fit(loop: Loop) -> Progress:
    progress = loop.resume()
    loop.fit(progress)
    return progress


def session(**machine: Any) -> Session:
    """A session of the shipped params; of `machine` some are changed."""
    machine = {"max_hours": None, "compile": "auto"} | machine
    return Session(
        "stageA",
        "RN18",
        stage_params=PARAMS.stageA,
        teacher_params=PARAMS.teachers["RN18"],
        preprocess=PARAMS.preprocess,
        seed=7,
        machine=PARAMS.machine.model_copy(update=machine),
        device=CPU,
    )


def fly(loop: Loop, progress: Progress, *, val: Any = VAL, **machine: Any) -> dict[str, Any]:
    """Take the preflight of a loop."""
    run = session(**machine)
    run.__dict__["rows"] = SimpleNamespace(val=range(27), scored=range(54))
    return preflight(run, loop, progress, val=val)


def final_state(folder: Path) -> dict[str, Any]:
    """The last checkpoint without what the clock decides."""
    state = load_checkpoint(folder)
    assert state is not None
    for record in state["progress"]["history"]:
        for key in CLOCK_KEYS:
            del record[key]
    return state


def assert_same(left: Any, right: Any) -> None:
    """Compare states to the bit."""
    left, right = (tree_map_only(Tensor, lambda t: t.tolist(), state) for state in (left, right))
    assert left == right
