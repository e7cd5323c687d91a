"""Model, optimizer, loss and average of the weights, and one optimizer step over them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves, tree_map_only

from stages.computing.team import ALONE, Team
from stages.runtime.seed import derive_seed
from stages.training.losses import Loss, Outcome

_MOMENTUM = 0.9

# image float32 (N, 3, H, W); target int64 (N,), or shares of the classes, float32 (N, 7);
# index int64 (N,), the row of the training set
Batch = Mapping[str, Tensor]


class TrainingPath(nn.Module):
    """Images (N, 3, S, S) and targets -> training logits (N, 7), with a margin on the target.

    `model` holds the parameters of `embed` and `head_logits`. Compiling leaves it alone, so its
    weights keep their names, and evaluation, average and export stay eager. Batches of an epoch
    have two sizes at most, each compiled for itself.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        embed: Callable[[Tensor], Tensor],
        head_logits: Callable[..., Tensor],
    ) -> None:
        super().__init__()
        self.model = model
        self._head_logits = head_logits
        self._eager = self._embed = embed

    def forward(self, images: Tensor, targets: Tensor, *, margin_rad: float) -> Tensor:
        """Compute logits (N, 7)."""
        return self._head_logits(self._embed(images), targets, margin_rad=margin_rad)

    @property
    def is_compiled(self) -> bool:
        """Whether embeddings are computed by torch.compile."""
        return self._embed is not self._eager

    def compile_embed(self) -> None:
        """Compute embeddings by torch.compile from now on; it compiles at its first call."""
        self._embed = torch.compile(self._eager, dynamic=False)

    def undo_compile(self) -> None:
        """Compute embeddings as the model does."""
        self._embed = self._eager


def by_decay(parameters: Iterable[nn.Parameter], *, weight_decay: float) -> list[dict[str, Any]]:
    """Group what learns: weight decay acts on matrices and kernels, not on biases and norms."""
    learning = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimizer(
    groups: list[dict[str, Any]], name: Literal["adamw", "sgd"]
) -> torch.optim.Optimizer:
    """Build AdamW, or SGD with Nesterov momentum.

    Each step sets the learning rate, times `lr_scale` in a group that has one.
    """
    is_fused = groups[0]["params"][0].device.type == "cuda"
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=_MOMENTUM, nesterov=True, fused=is_fused)
    return torch.optim.AdamW(groups, lr=0.0, fused=is_fused)


@dataclass
class TrainingStep:
    """A model in training; `scaler` is idle unless the dtype is float16.

    `average` is an exponential moving average of weights and buffers. In a team each process has a
    step over its share of every batch, `shared` wraps the path, and all models stay equal.
    """

    path: TrainingPath
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    loss: Loss
    average: ModelEmaV3 | None
    max_grad_norm: float
    device: torch.device
    dtype: torch.dtype
    team: Team = ALONE
    shared: DistributedDataParallel | None = None

    @property
    def model(self) -> nn.Module:
        """The model that learns."""
        return self.path.model

    def weights(self) -> nn.Module:
        """Return the model that is evaluated and published: the average if there is one."""
        return self.model if self.average is None else self.average.module

    def take(
        self,
        group: Sequence[Batch],
        *,
        number: int,
        num_images: int,
        learning_rate: float,
        margin_rad: float,
        seed: int,
    ) -> Outcome:
        """Take optimizer step `number` over a group of batches, without waiting for the device.

        What the model draws at random (dropout, dropped paths) is a function of (seed, number) and
        of the process. A non-finite step is taken too: `Losses` finds it before anything is kept.
        `num_images` counts those of the group in all processes.
        """
        torch.manual_seed(derive_seed(seed, "step", number) + self.team.rank)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = learning_rate * parameters.get("lr_scale", 1.0)
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

    def _backward(self, group: Sequence[Batch], *, num_images: int, margin_rad: float) -> Tensor:
        """Compute gradients of the group's mean loss, and return this process's part of it."""
        total = torch.zeros((), device=self.device)
        targets = [batch["target"] for batch in group]
        shares = self.loss.shares(targets, num_images=num_images, team=self.team)
        shared, path = self.shared, self.path if self.shared is None else self.shared
        for number, (batch, share) in enumerate(zip(group, shares, strict=True), start=1):
            # Only the last batch of a group exchanges the gradients that have added up.
            is_kept_back = number < len(group)
            with shared.no_sync() if shared is not None and is_kept_back else nullcontext():
                with torch.autocast(
                    self.device.type, self.dtype, enabled=self.dtype != torch.float32
                ):
                    logits = path(batch["image"], batch["target"], margin_rad=margin_rad)
                loss = self.loss(logits, batch["target"]) * share
                # DDP averages gradients; multiply by the number of processes to get the sum.
                self.scaler.scale(loss * self.team.size).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def state(self) -> dict[str, Any]:
        """Return all tensors and numbers that training changes."""
        return {
            "model": self.model.state_dict(),
            "average": {} if self.average is None else self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def state_bytes(self) -> int:
        """Count bytes of the state as it is now: an optimizer has none before its first step."""
        leaves = tree_leaves(self.state())
        return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))

    def weights_bytes(self) -> int:
        """Count bytes of the weights that are published."""
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
        """Forget at the end all that is learnt inside: state and torch's random numbers come back.

        The state is kept on the CPU for the while, so a GPU's memory is used as in training.
        """
        before = tree_map_only(Tensor, lambda t: t.detach().to("cpu", copy=True), self.state())
        gpus = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus):
            try:
                yield
            finally:
                self.optimizer.zero_grad(set_to_none=True)
                self.restore(before)
