"""A device that is asked for exists, or the run stops."""

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
    peak_memory,
)
from stages.runtime.errors import UserError

CPU = torch.device("cpu")


def test_a_cpu_computes_in_fp32_and_never_in_fp16() -> None:
    assert choose_dtype("auto", CPU) is torch.float32
    with pytest.raises(UserError, match=r"machine\.precision: fp16 needs a GPU"):
        choose_dtype("fp16", CPU)


def test_fast_is_tf32_for_convolutions_alone_and_deterministic_is_float32(monkeypatch) -> None:
    cudnn = torch.backends.cudnn
    for name in ("benchmark", "allow_tf32"):
        monkeypatch.setattr(cudnn, name, False)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    be_fast()
    assert (cudnn.allow_tf32, cudnn.benchmark) == (True, True)
    # The cosine of the head is a matrix product.
    assert torch.get_float32_matmul_precision() == "highest"
    try:
        be_deterministic()
        assert (cudnn.allow_tf32, cudnn.benchmark) == (False, False)
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


@pytest.mark.skipif(sys.platform == "win32", reason="the peak of a process is not told there")
def test_peak_memory_of_a_process_grows_with_what_it_holds() -> None:
    before = peak_memory(CPU)
    assert before is not None
    held = torch.ones(before.peak // 4 + 100 * 2**20)  # more than the peak there was, in bytes
    after = peak_memory(CPU)
    assert after is not None
    assert before.peak + held.nbytes // 2 < after.peak <= after.total
