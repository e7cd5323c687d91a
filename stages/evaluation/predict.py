"""A model and batches -> logits. The only part of this room that needs torch."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stages.config import NUM_CLASSES


def predict(
    model: nn.Module,
    loader: Iterable[Mapping[str, Any]],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> npt.NDArray[np.float32]:
    """Logits (N, C) float32 of every batch's `image` (n, 3, H, W), in the loader's order.

    The model is put into eval mode for the while; its mode is given back. float32 means no
    autocast. Without a batch there are no rows.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            parts = [_logits(model, batch["image"], device=device, dtype=dtype) for batch in loader]
    finally:
        model.train(was_training)
    return torch.cat([torch.empty(0, NUM_CLASSES), *parts]).numpy()


def _logits(
    model: nn.Module, images: Tensor, *, device: torch.device, dtype: torch.dtype
) -> Tensor:
    images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits = model(images)
    assert isinstance(logits, Tensor)
    return logits.float().cpu()
