"""A device that is asked for exists, or the run stops."""

import ctypes
import platform
import subprocess
import sys

import pytest
import torch

from stages.computing.device import (
    be_deterministic,
    be_fast,
    choose_device,
    choose_dtype,
    keep_freed_memory,
    peak_gpu_bytes,
    peak_memory,
)
from stages.runtime.errors import UserError

CPU = torch.device("cpu")


def test_a_cpu_computes_in_fp32_and_never_in_fp16() -> None:
    assert choose_dtype("auto", CPU) is torch.float32
    with pytest.raises(UserError, match=r"machine\.precision: fp16 needs a GPU"):
        choose_dtype("fp16", CPU)


def test_float32_of_the_head_stays_float32_while_convolutions_may_be_tf32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("benchmark", "allow_tf32"):
        monkeypatch.setattr(torch.backends.cudnn, name, False)
    be_fast()
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.benchmark
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_same_bits_every_time_are_bits_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    try:
        be_deterministic()
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_incident_D8_missing_cuda_is_an_error_not_a_fallback() -> None:
    assert choose_device("auto") == CPU
    with pytest.raises(UserError, match=r"machine\.device: 'cuda' asked for, 0 CUDA devices found"):
        choose_device("cuda")


# Pages that the system hands out while 64 MB are taken and freed for the second to the fifth time.
COUNT_PAGES = """
import resource
{first}
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"x" * (64 << 20)
before = pages()
for _ in range(4):
    b"x" * (64 << 20)
print(pages() - before)
"""
KEEP = "from stages.computing.device import keep_freed_memory; keep_freed_memory()"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other memory allocators differ")
def test_freed_memory_is_used_again() -> None:
    without, kept = (
        int(subprocess.check_output([sys.executable, "-c", COUNT_PAGES.format(first=first)]))
        for first in ("", KEEP)
    )
    assert kept < 100 < without


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", None)
    keep_freed_memory()


@pytest.mark.skipif(sys.platform == "win32", reason="the peak of a process is not told there")
def test_peak_memory_of_a_process_grows_with_what_it_holds() -> None:
    before = peak_memory(CPU)
    assert before is not None
    held = torch.ones(before.peak // 4 + 100 * 2**20)  # more than the peak there was, in bytes
    after = peak_memory(CPU)
    assert after is not None
    assert before.peak + held.nbytes // 2 < after.peak <= after.total
    assert peak_gpu_bytes(CPU) is None
