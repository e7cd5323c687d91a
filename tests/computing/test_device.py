"""A device that is asked for exists, or the run stops."""

import pytest
import torch

from stages.computing.device import be_deterministic, be_fast, choose_device, choose_dtype
from stages.runtime.errors import UserError

CPU = torch.device("cpu")


def test_auto_on_a_cpu_is_fp32() -> None:
    assert choose_dtype("auto", CPU) is torch.float32


def test_fp16_needs_a_gpu() -> None:
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
