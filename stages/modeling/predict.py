"""A model and batches -> logits, for training, export and evaluation alike."""

from collections.abc import Iterable
from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stages.computing.device import without_tf32
from stages.computing.transfer import Batch, Prepare, Reading, prepared, read_behind, sent_back
from stages.config import NUM_CLASSES


def predict(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    finish: Prepare,
    device: torch.device,
    dtype: torch.dtype,
) -> npt.NDArray[np.float32]:
    """Predict logits (N, C) float32 of every batch, in the loader's order.

    The model is in eval mode meanwhile; its mode is restored. float32 means neither autocast nor
    TF32. Without a batch there are no rows.

    Args:
        finish: makes `image` (n, 3, H, W) on the device of a batch.
    """
    was_training = model.training
    model.eval()
    try:
        exactly = without_tf32() if dtype == torch.float32 else nullcontext()
        with exactly, torch.inference_mode():
            batches = prepared(loader, prepare=finish, device=device)
            parts = list(read_behind(_logits(model, batch, dtype=dtype) for batch in batches))
    finally:
        model.train(was_training)
    return torch.cat([torch.empty(0, NUM_CLASSES), *parts]).numpy()


def _logits(model: nn.Module, batch: Batch, *, dtype: torch.dtype) -> Reading:
    images = batch["image"]
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits = model(images)
    assert isinstance(logits, Tensor)
    return sent_back(logits.float())
