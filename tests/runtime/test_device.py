"""A device that is asked for exists, or the run stops."""

import pytest
import torch

from stages.runtime.device import choose_device, choose_dtype
from stages.runtime.errors import UserError

CPU = torch.device("cpu")


def test_auto_on_a_cpu_is_fp32() -> None:
    assert choose_dtype("auto", CPU) is torch.float32


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(UserError, match=r"machine\.precision: fp16 needs a GPU"):
        choose_dtype("fp16", CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_incident_D8_missing_cuda_is_an_error_not_a_fallback() -> None:
    assert choose_device("auto") == CPU
    with pytest.raises(UserError, match=r"machine\.device: 'cuda' asked for, 0 CUDA devices found"):
        choose_device("cuda")
