import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from scipy.special import softmax
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
    require_small_loss,
)
from stages.exporting.export_files import VariantLoss
from stages.exporting.onnx_file import CalibratedModel, write_onnx
from stages.exporting.reference import Expressions
from stages.faces.decode import Image
from stages.faces.model_input import to_model_input
from tests.exporting.tiny import SIZE, make_card

Faces = tuple[list[Image], Tensor]


@pytest.fixture(scope="module")
def faces() -> Faces:
    """40 pictures, and the input that training makes of them."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 50, 3), np.uint8)
    pictures = [cv2.GaussianBlur(each, (0, 0), 2) for each in noise]
    how = Preprocess.model_validate_json(json.dumps(make_card().preprocess))
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


def test_file_script_and_module_agree_at_every_batch_size(
    path: Path, model: CalibratedModel, faces: Faces
) -> None:
    pictures, images = faces
    for n in (1, 2, 6, 40):
        parity = check_parity(path, model, images[:n], faces=pictures[:n], tolerance=1e-4)
        assert (parity.rows, parity.label_changes) == (n, 0)
        assert parity.max_abs_diff <= 1e-4
        assert parity.reference_max_abs_diff <= 1e-4


@pytest.mark.parametrize("shift", [2e-4, -2e-4, float("nan")])
def test_incident_X2_a_difference_fails_the_export(
    path: Path, model: CalibratedModel, faces: Faces, shift: float
) -> None:
    pictures, images = faces
    with pytest.raises(
        ParityError, match=r"tiny\.onnx: .* on 40 rows; .*parity_tolerance = 0\.0001"
    ):
        check_parity(path, Shifted(model, shift), images, faces=pictures, tolerance=1e-4)


def test_incident_X2_other_weights_fail_the_export(
    path: Path, model: CalibratedModel, faces: Faces
) -> None:
    pictures, images = faces
    other = CalibratedModel(list(model.teachers), calibration=Calibration((1.0,), 1.75)).eval()
    with pytest.raises(ParityError):
        check_parity(path, other, images, faces=pictures, tolerance=1e-4)


def test_incident_X3_a_preparation_that_differs_fails_the_export(
    tmp_path: Path, path: Path, proto: onnx.ModelProto, model: CalibratedModel, faces: Faces
) -> None:
    metadata = Expressions(path).metadata
    metadata["preprocess"]["clahe"] = None
    write_onnx(tmp_path / "tiny.onnx", proto, metadata=metadata)
    with pytest.raises(
        ParityError, match=r"tiny\.onnx: probabilities of reference\.py, by .* on 40"
    ):
        check_parity(tmp_path / "tiny.onnx", model, faces[1], faces=faces[0], tolerance=1e-4)


def rows_of(targets: np.ndarray) -> pd.DataFrame:
    groups = [f"g{row // 2}" for row in range(len(targets))]
    return pd.DataFrame({"label": [CLASSES[k] for k in targets], "group": groups})


def test_the_loss_is_the_difference_of_two_accuracies_on_the_same_rows() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 7, 400)
    logits = rng.normal(size=(400, 7)) + 2 * np.eye(7)[targets]
    full = softmax(logits, axis=1)
    smaller = softmax(logits + rng.normal(size=(400, 7)), axis=1)
    loss = measure_loss(full, smaller, rows_of(targets))
    right = [accuracy_score(targets, each.argmax(axis=1)) for each in (full, smaller)]
    assert loss.n == 400
    assert loss.accuracy_loss == pytest.approx(right[0] - right[1])
    assert loss.nll_increase == pytest.approx(log_loss(targets, smaller) - log_loss(targets, full))
    assert loss.label_changes == (full.argmax(1) != smaller.argmax(1)).sum() > 0
    assert loss.max_abs_diff == pytest.approx(abs(full - smaller).max())
    low, high = loss.accuracy_loss_95
    assert low < loss.accuracy_loss < high < low + 0.2
    hits = (full.argmax(axis=1) == targets).astype(float)
    accuracy, (low, high) = mean_with_interval(hits, rows_of(targets))
    assert accuracy == pytest.approx(right[0])
    assert low < accuracy < high < low + 0.2


def test_equal_answers_lose_nothing() -> None:
    full = softmax(np.random.default_rng(0).normal(size=(9, 7)), axis=1)
    loss = measure_loss(full, full, rows_of(np.arange(9) % 7))
    assert (loss.accuracy_loss, loss.accuracy_loss_95) == (0.0, (0.0, 0.0))


def test_incident_X2_a_loss_above_the_recipes_limit_fails_the_export() -> None:
    loss = VariantLoss(
        n=290, accuracy_loss=0.06, accuracy_loss_95=(0.01, 0.09), nll_increase=0.0,
        max_abs_diff=0.1, label_changes=3,
    )  # fmt: skip
    require_small_loss("a.int8.onnx", loss, allowed=0.06)
    with pytest.raises(
        LossError, match=r"a\.int8\.onnx: loses 0\.0600 \[0\.0100, 0\.0900\] .*variants"
    ):
        require_small_loss("a.int8.onnx", loss, allowed=0.059)


def test_incident_X2_answers_that_are_no_numbers_fail_the_export(
    path: Path, images: Tensor
) -> None:
    assert file_probabilities(path, [images[:4], images[4:7]]).shape == (7, 7)
    with pytest.raises(LossError, match=r"tiny\.onnx: some probabilities are not finite"):
        file_probabilities(path, [images[:4] * torch.nan])


def test_every_file_and_torch_are_timed_in_turns_at_both_batch_sizes(
    path: Path, model: CalibratedModel, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_MIN_REPEATS", 3)
    monkeypatch.setattr(checks, "_MAX_REPEATS", 3)
    threads = torch.get_num_threads()
    latency = measure_latency({"onnx": path, "int8": path}, model, images[:3])
    assert (latency.threads, latency.repeats) == (THREADS, {1: 3, 32: 3})
    assert torch.get_num_threads() == threads
    keys = {f"{name}_batch_{size}" for name in ("onnx", "int8", "torch") for size in (1, 32)}
    assert set(latency.milliseconds) == set(latency.images_per_s) == keys
    for key in keys:
        size = int(key.rpartition("_")[2])
        expected = 1000 * size / latency.milliseconds[key]
        assert latency.images_per_s[key] == pytest.approx(expected, rel=0.05)
