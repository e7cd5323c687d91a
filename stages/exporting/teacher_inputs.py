"""Cards of teachers -> what each of them wants as input, and the one input of their ensemble.

Teachers of one stage may have learnt from pictures of unlike sizes, means and standard deviations.
An ensemble takes the largest input of a teacher with a weight above 0. The graph makes the input
of each other teacher from it, larger only for a teacher whose weight is 0.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.config import Preprocess
from stages.modeling.card import TeacherCard


class ModelInput(NamedTuple):
    """How a face becomes input: the side of the picture, px, and the `preprocess` section."""

    image_size: int
    preprocess: Preprocess

    def normalised(self) -> dict[str, Any]:
        """Return size, mean and standard deviation as metadata have them."""
        mean, std = (list(values) for values in (self.preprocess.mean, self.preprocess.std))
        return {"size": self.image_size, "mean": mean, "std": std}


def input_of(card: TeacherCard) -> ModelInput:
    """Return the input that a teacher was trained with."""
    return ModelInput(card.image_size, card.preprocess_params)


def shared_input(cards: Sequence[TeacherCard], weights: Sequence[float]) -> ModelInput:
    """Choose the input of an ensemble: the largest of a teacher with a weight above 0."""
    used = [input_of(card) for card, weight in zip(cards, weights, strict=True) if weight > 0]
    return max(used, key=lambda each: each.image_size)


class Adapted(nn.Module):
    """A teacher that is given a picture of another size, or one normalised in another way.

    Resized by antialiased bilinear interpolation: a cheaper one would skip pixels.
    """

    scale: Tensor  # (3, 1, 1)
    shift: Tensor  # (3, 1, 1)

    def __init__(self, teacher: nn.Module, *, own: ModelInput, given: ModelInput) -> None:
        super().__init__()
        self.teacher, self.image_size = teacher, own.image_size
        mean, std, own_mean, own_std = (
            torch.tensor(values, dtype=torch.float64)[:, None, None]
            for part in (given.preprocess, own.preprocess)
            for values in (part.mean, part.std)
        )
        # (x * std + mean - own_mean) / own_std
        self.register_buffer("scale", (std / own_std).float())
        self.register_buffer("shift", ((mean - own_mean) / own_std).float())

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (N, 7) of images (N, 3, S, S)."""
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
        logits: Tensor = self.teacher(images * self.scale + self.shift)
        return logits


def adapt(
    teachers: Sequence[nn.Module], inputs: Sequence[ModelInput], *, given: ModelInput
) -> list[nn.Module]:
    """Let each teacher take the given input; one that was trained with it stays as it is."""
    return [
        teacher if own == given else Adapted(teacher, own=own, given=given)
        for teacher, own in zip(teachers, inputs, strict=True)
    ]
