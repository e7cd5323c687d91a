"""CLAHE of a whole batch on any device, with the very pixels of `preprocessing.clahe`.

OpenCV's steps in OpenCV's arithmetic; no step waits for the device or depends on the order in
which it adds. https://github.com/opencv/opencv/blob/4.x/modules/imgproc/src/clahe.cpp
"""

import torch
from torch import Tensor

_LEVELS = 256
# OpenCV's YCrCb in fixed point: 14 binary digits after the point.
_DIGITS = 14
_HALF = 1 << (_DIGITS - 1)
_LUMA_OF_RGB = (4899, 9617, 1868)
_CR_OF_RED, _CB_OF_BLUE = 11682, 9241
_RED_OF_CR, _GREEN_OF_CR, _GREEN_OF_CB, _BLUE_OF_CB = 22987, -11698, -5636, 29049
_GREY = 128


def equalize_batch(images: Tensor, *, clip_limit: float, tiles: int) -> Tensor:
    """Equalise the Y of YCrCb of RGB uint8 (N, S, S, 3), each on a grid of `tiles` x `tiles`."""
    red, green, blue = images.to(torch.int32).unbind(-1)
    parts = zip(_LUMA_OF_RGB, (red, green, blue), strict=True)
    luma = _rounded(sum((weight * plane for weight, plane in parts), torch.zeros_like(red)))
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
    return (fixed + _HALF) >> _DIGITS


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
