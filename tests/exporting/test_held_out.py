from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import accuracy_score, log_loss

from stages.config import CLASSES
from stages.exporting.evidence import held_out_rows
from stages.exporting.held_out import (
    HeldOut,
    LossError,
    accuracy_of,
    measure_loss,
    require_small_loss,
)
from stages.exporting.onnx_file import write_onnx
from stages.exporting.view import Faces, spread
from stages.runtime.errors import UserError


class Images:
    """Batches of model input, whatever the rows."""

    def __init__(self, *batches: torch.Tensor) -> None:
        self._batches = batches

    def batches(self) -> tuple[torch.Tensor, ...]:
        return self._batches


def held_out(targets: np.ndarray, *, images: Images | None = None) -> HeldOut:
    labels = [CLASSES[target] for target in targets]
    groups = [f"g{row // 2}" for row in range(len(targets))]
    rows = pd.DataFrame({"label": labels, "group": groups})
    return HeldOut("test", rows, cast("Faces", images or Images()))


def test_the_loss_is_the_difference_of_two_accuracies_on_the_same_rows() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 7, 400)
    logits = rng.normal(size=(400, 7)) + 2 * np.eye(7)[targets]
    full = softmax(logits, axis=1)
    smaller = softmax(logits + rng.normal(size=(400, 7)), axis=1)
    found = measure_loss(full, smaller, held_out(targets))
    right = [accuracy_score(targets, each.argmax(axis=1)) for each in (full, smaller)]
    assert found["accuracy_loss"] == pytest.approx(right[0] - right[1])
    assert found["nll_increase"] == pytest.approx(
        log_loss(targets, smaller) - log_loss(targets, full)
    )
    assert found["top_class_changes"] == (full.argmax(1) != smaller.argmax(1)).sum() > 0
    assert found["max_abs_diff"] == pytest.approx(abs(full - smaller).max())
    low, high = found["accuracy_loss_95"]
    assert low < found["accuracy_loss"] < high
    assert high - low < 0.2
    scores = accuracy_of(full, held_out(targets), weights_sha256=["a" * 64], fitted_on="val")
    low, high = scores.pop("accuracy_95")
    assert low < right[0] < high < low + 0.2
    about = {"weights_sha256": ["a" * 64], "label_rule": "majority", "fitted_on": "val"}
    assert scores == {
        "split": "test", "n": 400, "accuracy": pytest.approx(right[0]),
        "mean_top_probability": pytest.approx(full.max(axis=1).mean()),
        "about": [about | {"reported_on": "test", "n": 400}],
    }  # fmt: skip


def test_equal_answers_lose_nothing() -> None:
    full = softmax(np.random.default_rng(0).normal(size=(9, 7)), axis=1)
    found = measure_loss(full, full, held_out(np.arange(9) % 7))
    assert (found["accuracy_loss"], found["accuracy_loss_95"]) == (0.0, [0.0, 0.0])


def test_incident_X2_a_loss_above_the_recipes_limit_fails_the_export() -> None:
    loss = {"accuracy_loss": 0.06, "accuracy_loss_95": [0.01, 0.09], "n": 290}
    require_small_loss("a.int8.onnx", loss, allowed=0.06)
    with pytest.raises(
        LossError, match=r"a\.int8\.onnx: loses 0\.0600 \[0\.0100, 0\.0900\] .*variants"
    ):
        require_small_loss("a.int8.onnx", loss, allowed=0.059)


def test_incident_X2_answers_that_are_no_numbers_fail_the_export(
    tmp_path: Path, proto: onnx.ModelProto, images: torch.Tensor
) -> None:
    write_onnx(tmp_path / "a.onnx", proto, metadata={})
    good = held_out(np.zeros(7, np.int64), images=Images(images[:4], images[4:7]))
    assert good.probabilities(tmp_path / "a.onnx").shape == (7, 7)
    bad = held_out(np.zeros(4, np.int64), images=Images(images[:4] * torch.nan))
    with pytest.raises(LossError, match=r"a\.onnx: some probabilities are not finite"):
        bad.probabilities(tmp_path / "a.onnx")


def test_rows_held_out_are_test_rows_that_no_teacher_was_trained_on() -> None:
    rows = pd.DataFrame({"id": list("abcde"), "split": ["train", "val", "test", "test", "val"]})
    split, found = held_out_rows(rows, seen={"d"})
    assert (split, found["id"].tolist()) == ("test", ["c"])
    split, found = held_out_rows(rows, seen={"c", "d", "e"})
    assert (split, found["id"].tolist()) == ("val", ["b"])
    with pytest.raises(UserError, match="expected test or val rows"):
        held_out_rows(rows, seen=set("bcde"))


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (99, range(10))]
)
def test_a_sample_is_spread_over_all_rows(count: int, chosen: list[int]) -> None:
    rows = pd.DataFrame({"id": range(10)})
    assert spread(rows, count)["id"].tolist() == list(chosen)
