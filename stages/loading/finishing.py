"""Batches as the loader leaves them -> model input on the device that computes.

For a GPU the loader only decodes faces and varies their geometry and quality: colour, CLAHE and
normalisation follow here, for a batch at once, with the very pixels of the host. CLAHE takes
OpenCV's steps in OpenCV's arithmetic; no step waits for the device or depends on the order in which
it adds.
https://github.com/opencv/opencv/blob/4.x/modules/imgproc/src/clahe.cpp
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from stages.config import Preprocess

# Faces are finished in parts of at most this many pixels, which bounds intermediate memory.
_PIXELS_AT_ONCE = 1 << 22
_LUMA = (0.299, 0.587, 0.114)
# OpenCV has 10 binary digits after the point for colour of bytes.
_DIGITS = 10
_LEVELS = 256
# OpenCV's YCrCb in fixed point: 14 binary digits after the point.
_LUMA_DIGITS = 14
_HALF = 1 << (_LUMA_DIGITS - 1)
_LUMA_OF_RGB = (4899, 9617, 1868)
_CR_OF_RED, _CB_OF_BLUE = 11682, 9241
_RED_OF_CR, _GREEN_OF_CR, _GREEN_OF_CB, _BLUE_OF_CB = 22987, -11698, -5636, 29049
_GREY = 128


class Finish:
    """Makes model input of batches on one device, without waiting for it.

    Faces become what the host would have made of them: with factors of 1 they are exactly
    `faces.model_input.to_model_input`. A batch without `colour` is finished already and
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
            if (clahe := self._clahe) is not None:
                pixels = equalize_batch(pixels, clip_limit=clahe.clip_limit, tiles=clahe.tiles)
            finished[part] = pixels.float().mul_(self._scale).sub_(self._shift)
        return finished.permute(0, 3, 1, 2)


def vary_colour_batch(images: Tensor, colour: Tensor) -> Tensor:
    """The pixels of `augmentation.vary_colour` for RGB uint8 (N, S, S, 3).

    In fixed point as `transform_8u` of OpenCV:
    https://github.com/opencv/opencv/blob/4.x/modules/core/src/matmul.simd.hpp

    Args:
        colour: float64 (N, 3), factors of brightness, contrast and saturation.
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
    shift += 1 << _DIGITS - 1
    planes = images.to(torch.int32).unbind(-1)
    varied = []
    for row in matrix[..., None, None].unbind(1):
        parts = zip(row.unbind(1), planes, strict=True)
        plane = sum((weight * plane for weight, plane in parts), shift) >> _DIGITS
        varied.append(plane.clamp_(0, 255).to(torch.uint8))
    return torch.stack(varied, dim=-1)


def equalize_batch(images: Tensor, *, clip_limit: float, tiles: int) -> Tensor:
    """Equalise the Y of YCrCb of RGB uint8 (N, S, S, 3), each on a grid of `tiles` x `tiles`."""
    red, green, blue = images.to(torch.int32).unbind(-1)
    of_red, of_green, of_blue = _LUMA_OF_RGB
    luma = _rounded(of_red * red + of_green * green + of_blue * blue)
    cr = _rounded((red - luma) * _CR_OF_RED).clamp_(-_GREY, _GREY - 1)
    cb = _rounded((blue - luma) * _CB_OF_BLUE).clamp_(-_GREY, _GREY - 1)
    luma = _equalized(luma, clip_limit=clip_limit, tiles=tiles)
    planes = (
        luma + _rounded(cr * _RED_OF_CR),
        luma + _rounded(cr * _GREEN_OF_CR + cb * _GREEN_OF_CB),
        luma + _rounded(cb * _BLUE_OF_CB),
    )
    return torch.stack([plane.clamp_(0, 255).to(torch.uint8) for plane in planes], dim=-1)


def _rounded(fixed: Tensor) -> Tensor:
    """Fixed point to whole numbers, to the nearest."""
    return (fixed + _HALF) >> _LUMA_DIGITS


def _equalized(luma: Tensor, *, clip_limit: float, tiles: int) -> Tensor:
    """CLAHE of int32 (N, S, S) of 0 to 255."""
    size = luma.shape[-1]
    tile = -(-size // tiles)
    counts = _histograms(luma, tiles=tiles, tile=tile)
    curves = _curves(counts, area=tile * tile, clip_limit=clip_limit)
    per_tile = torch.tensor(1 / tile, dtype=torch.float32)
    places = torch.arange(size, dtype=torch.float32, device=luma.device) * per_tile - 0.5
    first = places.floor()
    share = places - first
    one, other = (part.clamp(0, tiles - 1).to(torch.int32) for part in (first, first + 1))

    def looked_up(rows: Tensor, columns: Tensor) -> Tensor:
        grid = rows[:, None] * tiles + columns
        images = torch.arange(len(luma), dtype=torch.int32, device=luma.device)[:, None, None]
        index = (images * tiles**2 + grid) * _LEVELS + luma
        return curves.index_select(0, index.flatten()).view(luma.shape)

    above = looked_up(one, one) * (1 - share) + looked_up(one, other) * share
    below = looked_up(other, one) * (1 - share) + looked_up(other, other) * share
    share = share[:, None]
    return (above * (1 - share) + below * share).round().to(torch.int32)


def _histograms(luma: Tensor, *, tiles: int, tile: int) -> Tensor:
    """How often each tile has each level, int32 (N, tiles * tiles, 256).

    Where the tiles do not divide the side, the picture goes on below and on the right, mirrored.
    """
    size = luma.shape[-1]
    places = torch.arange(tiles * tile, device=luma.device)
    period = max(1, 2 * (size - 1))
    mirrored = torch.minimum(places % period, period - places % period)
    whole = luma[:, mirrored][:, :, mirrored]
    images = torch.arange(len(luma), device=luma.device)[:, None, None]
    grid = (places // tile)[:, None] * tiles + places // tile
    index = ((images * tiles**2 + grid) * _LEVELS + whole).flatten()
    counts = torch.zeros(len(luma) * tiles**2 * _LEVELS, dtype=torch.int32, device=luma.device)
    ones = torch.ones((), dtype=torch.int32, device=luma.device).expand(len(index))
    return counts.scatter_add_(0, index, ones).view(len(luma), tiles**2, _LEVELS)


def _curves(counts: Tensor, *, area: int, clip_limit: float) -> Tensor:
    """Which level becomes which in each tile, float32 (N * tiles * tiles * 256,)."""
    limit = max(1, int(clip_limit * area / _LEVELS))
    excess = (counts - limit).clamp_(min=0).sum(-1, keepdim=True, dtype=torch.int32)
    rest = excess % _LEVELS
    step = _LEVELS // rest.clamp(min=1)
    levels = torch.arange(_LEVELS, dtype=torch.int32, device=counts.device)
    gets_one_more = (levels % step == 0) & (levels // step < rest)
    counts = counts.clamp(max=limit) + excess // _LEVELS + gets_one_more
    scale = torch.tensor((_LEVELS - 1) / area, dtype=torch.float32)
    return (counts.cumsum(-1, dtype=torch.int32) * scale).round_().clamp_(0, 255).flatten()
