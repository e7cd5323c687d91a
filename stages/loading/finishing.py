"""Batches as the loader's processes leave them -> model input on the device that computes.

For a GPU these only decode, crop, resize and mirror: colour, CLAHE and normalisation follow here,
for a batch at once, as `augmentation`, `clahe` and `model_input` do them for one face.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from stages.config import Preprocess
from stages.loading.equalization import equalize_batch

# Faces are finished in parts of at most so many pixels, which bounds what is held in between.
_PIXELS_AT_ONCE = 1 << 22
_LUMA = (0.299, 0.587, 0.114)
_DIGITS = 10


class Finish:
    """Makes model input of batches on one device, without waiting for it.

    Faces become what the host would have made of them: with factors of 1 they are exactly
    `preprocessing.model_input.to_model_input`. A batch without `colour` is finished already and
    only moves. `index` stays where it is.
    """

    def __init__(self, preprocess: Preprocess, *, device: torch.device) -> None:
        self._clahe = preprocess.clahe
        self._device = device
        std = torch.tensor(preprocess.std, dtype=torch.float32)
        self._scale = (1 / (255 * std)).to(device)
        self._shift = (torch.tensor(preprocess.mean, dtype=torch.float32) / std).to(device)

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its `image` as float32 (N, 3, S, S), channels last in memory, and its `target`."""
        image, target = (
            batch[name].to(self._device, non_blocking=True) for name in ("image", "target")
        )
        if "colour" in batch:
            image = self._finished(image, batch["colour"].to(self._device, non_blocking=True))
        return {"image": image, "target": target, "index": batch["index"]}

    def _finished(self, images: Tensor, colour: Tensor) -> Tensor:
        at_once = max(1, _PIXELS_AT_ONCE // images.shape[1] ** 2)
        finished = torch.empty(images.shape, dtype=torch.float32, device=self._device)
        for start in range(0, len(images), at_once):
            part = slice(start, start + at_once)
            pixels = vary_colour_batch(images[part], colour[part])
            if self._clahe is not None:
                clahe = self._clahe
                pixels = equalize_batch(pixels, clip_limit=clahe.clip_limit, tiles=clahe.tiles)
            finished[part] = pixels.float().mul_(self._scale).sub_(self._shift)
        return finished.permute(0, 3, 1, 2)


def vary_colour_batch(images: Tensor, colour: Tensor) -> Tensor:
    """The pixels of `augmentation.vary_colour` for RGB uint8 (N, S, S, 3).

    Args:
        colour: float64 (N, 3), factors of brightness, contrast and saturation.
    """
    matrix, shift = _fixed_point(images, colour)
    planes = images.to(torch.int32).unbind(-1)
    varied = [
        sum((weight * plane for weight, plane in zip(row, planes, strict=True)), shift) >> _DIGITS
        for row in matrix
    ]
    return torch.stack([plane.clamp_(0, 255).to(torch.uint8) for plane in varied], dim=-1)


def _fixed_point(images: Tensor, colour: Tensor) -> tuple[list[list[Tensor]], Tensor]:
    """Weights [output][input] and shift, int32 (N, 1, 1), with OpenCV's 10 digits for bytes.

    https://github.com/opencv/opencv/blob/4.x/modules/core/src/matmul.simd.hpp, `transform_8u`
    """
    brightness, contrast, saturation = colour[:, :, None, None].unbind(1)
    weights = torch.cat([colour.new_full((1,), weight) for weight in _LUMA])
    luma = (1 - saturation) * weights.expand(len(images), 3, 3)
    same = torch.eye(3, dtype=colour.dtype, device=colour.device)
    matrix = contrast * brightness * (saturation * same + luma)
    means = images.sum((1, 2), dtype=torch.int64).double() / images.shape[1] ** 2
    shift = (1 - contrast) * brightness * (means * weights).sum(-1)[:, None, None]
    matrix, shift = (
        (part.float() * (1 << _DIGITS)).round_().to(torch.int32) for part in (matrix, shift)
    )
    rows = [[entry[:, None, None] for entry in row.unbind(1)] for row in matrix.unbind(1)]
    return rows, shift + (1 << _DIGITS - 1)
