"""Stated views of a face as model input: as it is, cropped, mirrored. Soft labels are their mean.

A face that a teacher has learnt is answered from memory; it has not learnt all views of it.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FaceView = Callable[[Tensor], Tensor]

CROP_SHARE = 0.9
# How far down and to the right of the room that a crop leaves.
_CROPS = {
    "centre": (0.5, 0.5),
    "top left": (0.0, 0.0),
    "top right": (0.0, 1.0),
    "bottom left": (1.0, 0.0),
    "bottom right": (1.0, 1.0),
}


def choose_face_views(augmentations: Sequence[str]) -> dict[str, FaceView]:
    """Choose views (n, 3, S, S) -> (n, 3, S, S) by name, the face as it is first.

    With `mirror` and `crops` each crop is mirrored as well: twelve views.
    """
    views: dict[str, FaceView] = {"as it is": lambda images: images}
    if "crops" in augmentations:
        views |= {name: partial(_crop, place=place) for name, place in _CROPS.items()}
    if "mirror" in augmentations:
        views |= {f"{name}, mirrored": partial(_mirror, of=view) for name, view in views.items()}
    return views


class AllLogits(nn.Module):
    """The logits of every view of a face by every model, a row each: (n * V * M, 7)."""

    def __init__(self, models: Sequence[nn.Module], views: Sequence[FaceView]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.views = views

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits view by view: together they would need V times the memory."""
        views = (view(images) for view in self.views)
        logits = [model(seen) for seen in views for model in self.models]
        return torch.stack(logits, dim=1).flatten(0, 1)


def _crop(images: Tensor, *, place: tuple[float, float]) -> Tensor:
    size = images.shape[-1]
    side = round(CROP_SHARE * size)
    top, left = (int(share * (size - side)) for share in place)
    part = images[..., top : top + side, left : left + side]
    return F.interpolate(part, size=(size, size), mode="bilinear", antialias=True)


def _mirror(images: Tensor, *, of: FaceView) -> Tensor:
    return of(images).flip(-1)
