"""What learns: the model, what updates it, and one optimizer step."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stages.computing.team import ALONE, Team
from stages.runtime.seed import derive_seed
from stages.training.compilation import CompilableEmbed
from stages.training.outcomes import Outcome
from stages.training.prior import Loss

# image float32 (N, 3, H, W), target int64 (N,); index int64 (N,), the row of the training set
Batch = Mapping[str, Tensor]


class TrainingLogits(Protocol):
    """The model's way from images (N, 3, H, W) and targets (N,) to logits (N, 7) with a margin."""

    def __call__(self, images: Tensor, targets: Tensor, *, margin_rad: float) -> Tensor:  # noqa: D102
        ...


@dataclass
class Machinery:
    """A model in training; `scaler` is idle unless the dtype is float16.

    `embed` is the part of the training path that can be compiled.
    In a team each process has a machinery over its share of every batch, and all stay equal.
    """

    model: nn.Module
    embed: CompilableEmbed
    training_logits: TrainingLogits
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    loss: Loss
    average: ModelEmaV3 | None
    max_grad_norm: float
    device: torch.device
    dtype: torch.dtype
    team: Team = ALONE

    def weights(self) -> nn.Module:
        """The model whose numbers count: the average where there is one."""
        return self.model if self.average is None else self.average.module

    def step(
        self,
        group: Sequence[Batch],
        *,
        number: int,
        num_images: int,
        learning_rate: float,
        margin_rad: float,
        seed: int,
    ) -> Outcome:
        """Optimizer step `number` over a group of batches, without waiting for what it comes to.

        What the model draws at random (dropout, dropped paths) is a function of (seed, number) and
        of the process. A step that is not finite is taken too: what it has spoilt must not be kept.

        Args:
            num_images: of the group, in all processes.
        """
        torch.manual_seed(derive_seed(seed, "step", number) + self.team.rank)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(group, num_images=num_images, margin_rad=margin_rad)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model, step=number)
        return Outcome(
            number,
            num_images,
            learning_rate,
            loss=loss,
            gradient_norm=norm,
            rows=[batch["index"] for batch in group],
            # The scaler of float16 skips such a step by itself, and lowers its scale.
            may_overflow=self.scaler.is_enabled(),
        )

    def state(self) -> dict[str, Any]:
        """All tensors and numbers that training changes."""
        average = {} if self.average is None else self.average.module.state_dict()
        return {
            "model": self.model.state_dict(),
            "average": average,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def state_bytes(self) -> int:
        """Of all tensors of the state as it is now: an optimizer has none before its first step."""
        return sum(tensor.nbytes for tensor in _tensors(self.state()))

    def weights_bytes(self) -> int:
        """Of the weights that count."""
        return sum(tensor.nbytes for tensor in self.weights().state_dict().values())

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Whatever is learnt inside is forgotten: the state and torch's random numbers come back.

        The state is kept on the CPU for the while, so a GPU's memory is used as in training.
        """
        before = _copied(self.state())
        gpus = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus):
            try:
                yield
            finally:
                self.optimizer.zero_grad(set_to_none=True)
                self.restore(before)

    def _backward(self, group: Sequence[Batch], *, num_images: int, margin_rad: float) -> Tensor:
        """Gradients of the mean loss over all images of the group; this process's part of it."""
        total = torch.zeros((), device=self.device)
        shares = self._shares(group, num_images=num_images)
        for number, (batch, share) in enumerate(zip(group, shares, strict=True), start=1):
            with nullcontext() if number == len(group) else self._gradients_to_itself():
                loss = self._loss(batch, margin_rad=margin_rad) * share
                # Processes give each other the mean of their gradients, and the sum is wanted.
                self.scaler.scale(loss * self.team.size).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _shares(self, group: Sequence[Batch], *, num_images: int) -> Sequence[float | Tensor]:
        """What the mean of each batch counts in the mean over the group, in all processes."""
        if (weight := self.loss.weight) is None:
            return [len(batch["target"]) / num_images for batch in group]
        sums = [weight[batch["target"]].sum() for batch in group]
        whole = self.team.total(torch.stack(sums).sum())
        return [part / whole for part in sums]

    def _gradients_to_itself(self) -> AbstractContextManager[None]:
        """Where a process adds up gradients that it shares with the last batch of a group."""
        shared = self.training_logits
        return shared.no_sync() if isinstance(shared, DistributedDataParallel) else nullcontext()

    def _loss(self, batch: Batch, *, margin_rad: float) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.training_logits(batch["image"], batch["target"], margin_rad=margin_rad)
        return self.loss(logits, batch["target"])


def _tensors(value: Any) -> Iterator[Tensor]:
    """All that a state holds."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from itertools.chain.from_iterable(map(_tensors, value.values()))
    elif isinstance(value, list):
        yield from itertools.chain.from_iterable(map(_tensors, value))


def _copied(value: Any) -> Any:
    """A state with tensors of its own, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_copied(entry) for entry in value]
    return value
