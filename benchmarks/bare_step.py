"""The step that the training loop is held against: plain torch on one batch that is ready.

In: a loop, whose model, loss, batch and precision it copies. Out: steps without a loader, a
schedule or a count of losses.
"""

import copy

import torch
from torch import nn

from stages.training.loop import Loop


class BareStep:
    """Plain torch on one ready batch, with a model and an optimizer of its own."""

    def __init__(self, loop: Loop, *, with_extras: bool) -> None:
        step = loop.step
        self._dtype, self._device = step.dtype, step.device
        self._model = copy.deepcopy(step.model)
        self._loss, self._max_norm = step.loss, step.max_grad_norm
        is_fused = self._device.type == "cuda"
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-3, fused=is_fused)
        self._average = copy.deepcopy(step.weights()) if with_extras else None
        batch = next(iter(loop.batches.epoch(0, start_batch=0)))
        self._batch = {name: part.clone() for name, part in loop.batches.finish(batch).items()}

    @property
    def batch_size(self) -> int:
        """Number of images in a step."""
        return len(self._batch["target"])

    def take(self, number: int) -> None:
        """Take a number of steps."""
        for _ in range(number):
            self._optimizer.zero_grad(set_to_none=True)
            with torch.autocast(
                self._device.type, self._dtype, enabled=self._dtype != torch.float32
            ):
                embedding = self._model.embed(self._batch["image"])
                logits = self._model.head.training_logits(
                    embedding, self._batch["target"], margin_rad=0.1
                )
            self._loss(logits, self._batch["target"]).backward()
            if self._average is not None:
                nn.utils.clip_grad_norm_(self._model.parameters(), self._max_norm)
            self._optimizer.step()
            if self._average is not None:
                _average(self._average, self._model)


def _average(average: nn.Module, model: nn.Module) -> None:
    with torch.no_grad():
        kept, new = ([p.detach() for p in m.parameters()] for m in (average, model))
        torch._foreach_lerp_(kept, new, 0.01)
        for old, value in zip(average.buffers(), model.buffers(), strict=True):
            old.copy_(value)
