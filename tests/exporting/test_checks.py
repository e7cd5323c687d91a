import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from scipy.special import softmax
from shipped import shipped
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn

from stages.calibrating.calibration import Calibration
from stages.config import CLASSES, Preprocess
from stages.exporting import checks
from stages.exporting.checks import (
    THREADS,
    LossError,
    ParityError,
    check_parity,
    file_probabilities,
    mean_with_interval,
    measure_latency,
    measure_loss,
)
from stages.exporting.export_files import LatencyFile, ModelLatency, SoftLabels
from stages.exporting.onnx_file import CalibratedModel, write_onnx
from stages.exporting.reference import Expressions
from stages.faces.decode import Image
from stages.faces.model_input import to_model_input
from tests.exporting.tiny import CLAHE, SIZE

Faces = tuple[list[Image], Tensor]


@pytest.fixture(scope="module")
def faces():
    """40 pictures, and the input that training makes of them."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 50, 3), np.uint8)
    pictures = [cv2.GaussianBlur(each, (0, 0), 2) for each in noise]
    how = shipped(Preprocess, clahe=CLAHE)
    batch = np.stack([to_model_input(face, size=SIZE, preprocess=how) for face in pictures])
    return pictures, torch.from_numpy(batch)


class Shifted(nn.Module):
    """The model, off by `shift` in one probability of one row of 32."""

    def __init__(self, model: nn.Module, shift: float) -> None:
        super().__init__()
        self.model = model
        self.shift = shift

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = self.model(image)
        if len(image) == 32:
            probabilities = probabilities.clone()
            probabilities[30, 2] += self.shift
        return logits, probabilities


@pytest.mark.parametrize(
    "shift",
    [
        *(2e-4, -2e-4, float("nan")),
        pytest.param(None, id="test_incident_X2_other_weights_fail_the_export"),
    ],
)
def test_incident_X2_a_difference_fails_the_export(path, model, faces, shift):
    other = CalibratedModel(list(model.teachers), calibration=Calibration((1.0,), 1.75)).eval()
    differing = other if shift is None else Shifted(model, shift)
    message = r"tiny\.onnx: .* on 40 rows; .*parity_tolerance = 0\.0001"
    with pytest.raises(ParityError, match=message):
        check_parity(path, differing, faces[1], faces=faces[0], tolerance=1e-4)


def test_incident_X3_a_preparation_that_differs_fails_the_export(
    tmp_path, path, proto, model, faces
):
    metadata = Expressions(path).metadata
    metadata["preprocess"]["clahe"] = None
    write_onnx(tmp_path / "tiny.onnx", proto, metadata=metadata)
    message = r"tiny\.onnx: probabilities of reference\.py, by .* on 40"
    with pytest.raises(ParityError, match=message):
        check_parity(tmp_path / "tiny.onnx", model, faces[1], faces=faces[0], tolerance=1e-4)


def test_incident_X2_a_loss_above_the_recipes_limit_fails_the_export():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 7, 400)
    groups = [f"g{row // 2}" for row in range(400)]
    rows = pd.DataFrame({"label": [CLASSES[k] for k in targets], "group": groups})
    logits = rng.normal(size=(400, 7)) + 2 * np.eye(7)[targets]
    full = softmax(logits, axis=1)
    smaller = softmax(logits + rng.normal(size=(400, 7)), axis=1)
    right = [accuracy_score(targets, each.argmax(axis=1)) for each in (full, smaller)]
    allowed = right[0] - right[1]
    loss = measure_loss("a", smaller, full=full, rows=rows, allowed=allowed + 1e-9)
    assert loss.accuracy_loss == pytest.approx(allowed)
    assert loss.nll_increase == pytest.approx(log_loss(targets, smaller) - log_loss(targets, full))
    assert (loss.n, loss.label_changes) == (400, (full.argmax(1) != smaller.argmax(1)).sum())
    assert loss.max_abs_diff == pytest.approx(abs(full - smaller).max())
    low, high = loss.accuracy_loss_95
    assert low < loss.accuracy_loss < high < low + 0.2
    accuracy, (low, high) = mean_with_interval((full.argmax(axis=1) == targets) * 1.0, rows)
    assert accuracy == pytest.approx(right[0])
    assert low < accuracy < high < low + 0.2
    message = rf"a\.int8\.onnx: loses {allowed:.4f} \[.*\] of the accuracy on 400 rows; .*variants"
    with pytest.raises(LossError, match=message):
        measure_loss("a.int8.onnx", smaller, full=full, rows=rows, allowed=allowed - 1e-9)
    same = measure_loss("a", full, full=full, rows=rows, allowed=0)
    assert (same.accuracy_loss, same.accuracy_loss_95) == (0.0, (0.0, 0.0))


def test_incident_X2_answers_that_are_no_numbers_fail_the_export(path, images):
    assert file_probabilities(path, [images[:4], images[4:7]]).shape == (7, 7)
    with pytest.raises(LossError, match=r"tiny\.onnx: some probabilities are not finite"):
        file_probabilities(path, [images[:4] * torch.nan])


def test_every_file_and_torch_are_timed_in_turns_at_both_batch_sizes(
    path, model, images, monkeypatch
):
    monkeypatch.setattr(checks, "_MIN_REPEATS", 3)
    monkeypatch.setattr(checks, "_MAX_REPEATS", 3)
    threads = torch.get_num_threads()
    latency = measure_latency({"onnx": path, "int8": path}, model, images[:3])
    assert (latency.threads, latency.repeats) == (THREADS, {1: 3, 32: 3})
    assert torch.get_num_threads() == threads
    keys = {f"{name}_batch_{size}" for name in ("onnx", "int8", "torch") for size in (1, 32)}
    assert set(latency.milliseconds) == keys
    for key, milliseconds in latency.milliseconds.items():
        expected = 1000 * int(key.rpartition("_")[2]) / milliseconds
        assert latency.images_per_s[key] == pytest.approx(expected, rel=0.05)


SEEN = {"n": 3, "mean_top_probability": 0.5}
TIMES = {f"{name}_batch_{size}": 1.0 for name in ("onnx", "torch") for size in (1, 32)}
LATENCY = {"threads": 1, "repeats": {1: 5, 32: 5}, "milliseconds": TIMES, "images_per_s": TIMES}


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (LatencyFile, {"stage": "stageB", "models": {"B3": LATENCY}}, "expected the ensemble"),
        (ModelLatency, LATENCY | {"milliseconds": TIMES | {"fp16_batch_1": 1.0}}, "fp16_batch_32"),
        (ModelLatency, LATENCY | {"images_per_s": {"onnx_batch_1": 1.0}}, "expected times of"),
        (
            SoftLabels,
            {"n": 4, "label_agreement": 1, "mean_top_probability": 1, "nearly_one_hot": True}
            | {"distillation_temperature": 2, "mean_top_probability_distilled": 1}
            | {"by_seen": {"seen": SEEN}},
            "by_seen: expected 4 rows in all, got 3",
        ),
    ],
)
def test_numbers_that_are_not_whole_are_not_written(kind, values, message):
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(values)
