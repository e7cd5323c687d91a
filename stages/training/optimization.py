"""Optimizers, their parameter groups, and the average of the weights."""

from typing import Literal

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn

_MOMENTUM = 0.9


def build_optimizer(
    model: nn.Module, name: Literal["adamw", "sgd"], *, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum.

    Weight decay acts on matrices and kernels only (not on biases, norms or scales).
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    on_gpu = parameters[0].device.type == "cuda"
    if name == "sgd":
        return torch.optim.SGD(
            groups, lr=learning_rate, momentum=_MOMENTUM, nesterov=True, fused=on_gpu
        )
    return torch.optim.AdamW(groups, lr=learning_rate, fused=on_gpu)


def build_average(model: nn.Module, *, decay: float) -> ModelEmaV3:
    """Exponential moving average of weights and buffers; its decay warms up for short runs."""
    return ModelEmaV3(model, decay=decay, use_warmup=True)
