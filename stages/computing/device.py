"""Which device trains, and in which precision."""

import os

import torch

from stages.runtime.errors import UserError


def choose_device(wanted: str) -> torch.device:
    """`auto` takes CUDA when there is one; a device that is asked for by name must exist.

    Raises:
        UserError: if the named device is missing (there is no fallback to the CPU).
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UserError(
            f"params.yaml: machine.device: {wanted!r} asked for, {found} CUDA devices found"
        )
    return device


def be_fast() -> None:
    """Let a GPU choose its fastest convolutions, those in TF32 among them.

    Matrix products of float32 stay float32: the cosine of the head is one, and TF32 would round it
    by some 5e-4, of which the scale makes a hundredth of a logit. On a CPU nothing changes.
    """
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = True


def be_deterministic() -> None:
    """Let torch compute the same bits every time, without TF32; what cannot is an error.

    Call it before anything uses a GPU.
    """
    # https://docs.nvidia.com/cuda/cublas/#results-reproducibility
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The autocast dtype; fp32 means no autocast.

    `auto` is bf16 on a GPU that computes in it, fp16 on an older one and fp32 on a CPU (bf16
    autocast on a CPU without bf16 instructions is 30 times slower).

    Raises:
        UserError: for fp16 on a CPU.
    """
    if precision == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    if precision == "fp16" and device.type == "cpu":
        raise UserError("params.yaml: machine.precision: fp16 needs a GPU; use fp32 or auto")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def describe_device(device: torch.device) -> str:
    """The device's name, for the record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
