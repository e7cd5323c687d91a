"""Which device computes, in which precision, and how much memory it takes."""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from stages.runtime.errors import UserError

_GIB = 2**30
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def choose_device(wanted: str) -> torch.device:
    """Choose CUDA for `auto` if there is a GPU; a device that is asked for by name must exist.

    Raises:
        UserError: if the named device is missing (there is no fallback to the CPU).
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= (found := torch.cuda.device_count()):
        raise UserError(
            f"params.yaml: machine.device: {wanted!r} asked for, {found} CUDA devices found"
        )
    return device


def be_fast() -> None:
    """Let a GPU choose its fastest convolutions, those in TF32 among them.

    Matrix products stay float32: the cosine of the head is one, and TF32 would round it by some
    5e-4, of which the scale makes a hundredth of a logit.
    """
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = True


def be_deterministic() -> None:
    """Let torch compute the same bits every time, without TF32; other operations are errors.

    Call it before anything uses a GPU.
    """
    # https://docs.nvidia.com/cuda/cublas/#results-reproducibility
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def without_tf32() -> Iterator[None]:
    """Let a GPU compute float32 in full inside: no convolution and no matrix product in TF32."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Choose the autocast dtype; fp32 means no autocast.

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
    """Name the device, for the record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def keep_freed_memory() -> None:
    """Make glibc, if it is the C library, keep freed memory for the next allocation.

    Else the system takes large blocks back and clears new ones page by page: 20,000 pages in a
    CPU's training step of ResNet18 at 64 px.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)


class Memory(NamedTuple):
    """Bytes at the peak and in all: of the GPU, or of this process and its machine."""

    peak: int
    total: int

    def __str__(self) -> str:
        return f"{self.peak / _GIB:.1f} of {self.total / _GIB:.1f} GiB"


def reset_peak(device: torch.device) -> None:
    """Count a GPU's peak from now on; the peak of a process is of its whole life."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gpu_bytes(device: torch.device) -> int | None:
    """Return the most that tensors took of a GPU since `reset_peak`; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def peak_memory(device: torch.device) -> Memory | None:
    """Return the peak on the device that trains; None where the system does not tell it."""
    if (peak := peak_gpu_bytes(device)) is not None:
        return Memory(peak, torch.cuda.get_device_properties(device).total_memory)
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Memory(peak, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
