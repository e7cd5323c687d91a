from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor

from stages.exporting import latency
from stages.exporting.calibrated import CalibratedTeacher
from stages.exporting.latency import THREADS, measure_latency
from stages.exporting.onnx_file import write_onnx


def test_every_file_and_torch_are_timed_in_turns_at_both_batch_sizes(
    tmp_path: Path,
    proto: onnx.ModelProto,
    model: CalibratedTeacher,
    images: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(latency, "_MIN_REPEATS", 3)
    monkeypatch.setattr(latency, "_MAX_REPEATS", 3)
    for name in ("a", "b"):
        write_onnx(tmp_path / f"{name}.onnx", proto, metadata={})
    threads = torch.get_num_threads()
    files = {"onnx": tmp_path / "a.onnx", "int8": tmp_path / "b.onnx"}
    report = measure_latency(files, model, images[:3])
    (setting,) = report["latency_setting"]
    assert setting == {"threads": THREADS, "repeats_batch_1": 3, "repeats_batch_32": 3}
    assert torch.get_num_threads() == threads
    keys = {f"{name}_batch_{size}" for name in ("onnx", "int8", "torch") for size in (1, 32)}
    assert set(report["latency_ms"]) == set(report["images_per_s"]) == keys
    for key in keys:
        size = int(key.rpartition("_")[2])
        rate = report["images_per_s"][key]
        assert rate == pytest.approx(1000 * size / report["latency_ms"][key], rel=0.05)
