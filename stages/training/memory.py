"""How much memory a run needed at its peak, how much there is, and what does not fit."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from stages.config import NUM_CLASSES, SamplerFill, Stage
from stages.runtime.errors import UserError

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


@contextmanager
def fit_explained(section: Stage, *, key: str, least: int) -> Iterator[None]:
    """Raise `too_large` where a GPU runs out of memory."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
        raise too_large(section, key=key, least=least, reason=reason) from None


def too_large(section: Stage, *, key: str, least: int, reason: str) -> UserError:
    """The error that names what to change in section `key` of params.yaml.

    `least` is the smallest batch size that the model and the processes allow.
    """
    way = f"a smaller {key}.image_size"
    note = "batch norm then sees the smaller batches"
    if isinstance(section.prior, SamplerFill):
        least = max(least, NUM_CLASSES * section.prior.min_per_class)
        note += ", and each of them is filled up, so rare classes are repeated more often"
    if section.batch_size > least:
        way = (
            f"a smaller batch_size, of {least} at least, with more {key}.accumulate takes steps of "
            f"as many images ({note}); else {way}"
        )
    return UserError(
        f"params.yaml: {key}.batch_size: {section.batch_size} images of {key}.image_size "
        f"{section.image_size} px do not fit the GPU: {reason}; {way}"
    )


def _process_memory() -> Memory | None:
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Memory(peak, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
