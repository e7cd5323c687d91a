"""How much memory a run needed at its peak, and how much there is."""

import os
import sys
from dataclasses import dataclass

import torch

_GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak and in all: of the GPU, or of this process and its machine."""

    peak: int
    total: int

    def __str__(self) -> str:
        return f"{self.peak / _GIB:.1f} of {self.total / _GIB:.1f} GiB"


def reset_peak(device: torch.device) -> None:
    """Let a GPU's peak be counted from now on; that of a process is of its whole life."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gpu_bytes(device: torch.device) -> int | None:
    """The most that tensors took of a GPU since `reset_peak`; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def peak_memory(device: torch.device) -> Memory | None:
    """The peak on the device that trains; None where the system does not tell a process's peak."""
    peak = peak_gpu_bytes(device)
    if peak is not None:
        return Memory(peak, torch.cuda.get_device_properties(device).total_memory)
    return _process_memory()


def _process_memory() -> Memory | None:
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Memory(peak, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
