from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from shipped import shipped
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn

from stages.config import CLASSES, Preprocess
from stages.exporting.checks import (
    THREADS,
    LossError,
    ParityError,
    check_parity,
    file_answers,
    measure_latency,
    measure_loss,
)
from stages.exporting.onnx_file import Answers, CalibratedModel, write_onnx
from stages.exporting.reference import Expressions
from stages.faces.model_input import to_model_input
from tests.exporting.tiny import CALIBRATION, CLAHE, SIZE


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

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, probabilities, label = self.model(image)
        if len(image) == 32:
            probabilities, label = probabilities.clone(), label.clone()
            probabilities[30, 2] += self.shift
            label[29:] += 1
        return logits, probabilities, label


@pytest.mark.parametrize(
    "shift",
    [
        *(2e-4, -2e-4, float("nan")),
        pytest.param(None, id="test_incident_X2_other_weights_fail_the_export"),
    ],
)
def test_incident_X2_a_difference_fails_the_export(path, model, faces, shift):
    other = CalibratedModel(model.teachers, calibration=replace(CALIBRATION, temperature=1.75))
    differing = other.eval() if shift is None else Shifted(model, shift)
    message = r"tiny\.onnx: .* on 40 rows; .*parity_tolerance = 0\.0001"
    with pytest.raises(ParityError, match=message):
        check_parity(path, differing, faces[1], faces=faces[0], tolerance=1e-4)


def test_labels_that_differ_are_counted(path, model, faces):
    shifted = Shifted(model, 0.0)
    parity = check_parity(path, shifted, faces[1], faces=faces[0], tolerance=1e-4)
    assert (parity.rows, parity.label_changes) == (40, 3)


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
    # Labels are what a file names; here it favours Neutral.
    full, smaller = (
        Answers(softmax(z, axis=1), (z + np.eye(7)[6]).argmax(axis=1))
        for z in (logits, logits + rng.normal(size=(400, 7)))
    )
    right = [accuracy_score(targets, each.labels) for each in (full, smaller)]
    nll, smaller_nll = (log_loss(targets, each.probabilities) for each in (full, smaller))
    allowed = right[0] - right[1]
    loss = measure_loss("a", smaller, full=full, rows=rows, allowed=allowed + 1e-9)
    assert loss.accuracy_loss == pytest.approx(allowed)
    assert loss.nll_increase == pytest.approx(smaller_nll - nll)
    assert (loss.n, loss.label_changes) == (400, (full.labels != smaller.labels).sum())
    assert loss.max_abs_diff == abs(full.probabilities - smaller.probabilities).max()
    low, high = loss.accuracy_loss_95
    assert low < loss.accuracy_loss < high < low + 0.2
    message = rf"a\.int8\.onnx: loses {allowed:.4f} \[.*\] of the accuracy on 400 rows; .*variants"
    with pytest.raises(LossError, match=message):
        measure_loss("a.int8.onnx", smaller, full=full, rows=rows, allowed=allowed - 1e-9)
    same = measure_loss("a", full, full=full, rows=rows, allowed=0)
    assert (same.accuracy_loss, same.accuracy_loss_95) == (0.0, (0.0, 0.0))


def test_incident_X2_answers_that_are_no_numbers_fail_the_export(path, images):
    answers = file_answers(path, [images[:4], images[4:7]])
    assert (answers.probabilities.shape, answers.labels.shape) == ((7, 7), (7,))
    with pytest.raises(LossError, match=r"tiny\.onnx: some probabilities are not finite"):
        file_answers(path, [images[:4] * torch.nan])


def test_torch_keeps_its_threads_and_every_time_is_of_one_batch(path, model, images):
    threads = torch.get_num_threads()
    latency = measure_latency({"onnx": path}, model, images[:3])
    assert (latency.threads, latency.repeats) == (THREADS, {1: 1, 32: 1})
    assert torch.get_num_threads() == threads
    for key, milliseconds in latency.milliseconds.items():
        expected = 1000 * int(key.rpartition("_")[2]) / milliseconds
        assert latency.images_per_s[key] == pytest.approx(expected, rel=0.05)
