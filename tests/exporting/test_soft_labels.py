import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from stages.config import CLASSES, Export
from stages.exporting.soft_labels import join_by_id, write_soft_labels
from stages.runtime.errors import UserError

HALF = Export(soft_labels_view="view", distillation_temperature=4.0)
FULL = Export(soft_labels_view="view", float32_logits=True)
SEEN = frozenset({"expw_hq/photo#0", "rafdb/é"})


@pytest.fixture
def view() -> pd.DataFrame:
    ids = ["expw_hq/photo#0", "expw_hq/photo#1", "ferplus/a", "rafdb/é"]
    sources = [name.split("/")[0] for name in ids]
    labels = ["Angry", "Neutral", "Happy", "Angry"]
    splits = ["train", "train", "test", "train"]
    return pd.DataFrame({"id": ids, "source": sources, "label": labels, "split": splits})


def draw_probabilities(*, scale: float) -> np.ndarray:
    return softmax(np.random.default_rng(0).normal(size=(4, 7)) * scale, axis=1)


@given(st.permutations(["a#0", "a#1", "b", "c"]))
def test_rows_follow_the_view_whatever_the_order_of_prediction(order: list[str]) -> None:
    wanted = ["a#0", "a#1", "b", "c"]
    predictions = np.array([[float(wanted.index(name))] for name in order])
    assert join_by_id(predictions, ids=order, wanted=wanted)[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("ids", "wanted", "message"),
    [
        (["p#0", "p#0"], ["p#0", "p#1"], r"1 ids \(p#0\) stand more than once in the predictions"),
        (["p#0", "p#1"], ["p#0", "p#0"], r"1 ids \(p#0\) stand more than once in the view"),
        (["p#0"], ["p#0", "p#1"], r"1 ids \(p#1\) of the view have no prediction"),
        (["p#0", "p#1"], ["p#0"], r"1 ids \(p#1\) are predicted but not in the view"),
        ([], [f"p#{i}" for i in range(9)], r"9 ids \(p#0, p#1, p#2, p#3, p#4 and 4 more\)"),
    ],
)
def test_incident_X5_the_join_is_complete_or_an_error(
    ids: list[str], wanted: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        join_by_id(np.zeros((len(ids), 7)), ids=ids, wanted=wanted)


def test_incident_X5_faces_of_one_photo_keep_their_own_rows(
    tmp_path: Path, view: pd.DataFrame
) -> None:
    expected = draw_probabilities(scale=3)
    write_soft_labels(tmp_path, view, expected, seen=SEEN, settings=FULL)
    arrays = np.load(tmp_path / "softlabels.npz")
    lines = (tmp_path / "softlabels_index.jsonl").read_text(encoding="utf-8").splitlines()
    index = [json.loads(line) for line in lines]
    assert [row["id"] for row in index] == view["id"].tolist()
    assert [row["i"] for row in index] == [0, 1, 2, 3]
    assert [row["source"] for row in index] == view["source"].tolist()
    assert [row["y"] for row in index] == arrays["y"].tolist() == [0, 6, 3, 0]
    assert json.loads((tmp_path / "classorder.json").read_text()) == list(CLASSES)
    assert arrays["y"].dtype == np.int64
    np.testing.assert_allclose(softmax(arrays["logits"], axis=1), expected, atol=1e-6)
    assert arrays["logits"].dtype == np.float32


def test_half_precision_keeps_the_probabilities(tmp_path: Path, view: pd.DataFrame) -> None:
    for scale in (1, 30, 600):
        expected = draw_probabilities(scale=scale)
        write_soft_labels(tmp_path, view, expected, seen=SEEN, settings=HALF)
        logits = np.load(tmp_path / "softlabels.npz")["logits"]
        assert logits.dtype == np.float16
        assert np.isfinite(logits).all()
        found = softmax(logits.astype(np.float64), axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_equal_labels_are_equal_bytes(tmp_path: Path, view: pd.DataFrame) -> None:
    for name in ("a", "b"):
        write_soft_labels(
            tmp_path / name, view, draw_probabilities(scale=3), seen=SEEN, settings=HALF
        )
    first = (tmp_path / "a" / "softlabels.npz").read_bytes()
    assert first == (tmp_path / "b" / "softlabels.npz").read_bytes()


@pytest.mark.parametrize(("scale", "warned"), [(1.0, False), (40.0, True)])
def test_incident_N7_nearly_one_hot_labels_are_warned_of(
    tmp_path: Path, view: pd.DataFrame, caplog: pytest.LogCaptureFixture, scale: float, warned: bool
) -> None:
    expected = draw_probabilities(scale=scale)
    with caplog.at_level(logging.WARNING):
        summary = write_soft_labels(tmp_path, view, expected, seen=SEEN, settings=HALF)
    assert summary["mean_top_probability"] == pytest.approx(expected.max(1).mean())
    assert summary["nearly_one_hot"] is warned
    assert ("nearly one-hot" in caplog.text) is warned


def test_incident_N2_the_temperature_for_students_is_reported_and_not_applied(
    tmp_path: Path, view: pd.DataFrame
) -> None:
    expected = draw_probabilities(scale=3)
    summary = write_soft_labels(tmp_path, view, expected, seen=SEEN, settings=HALF)
    logits = np.load(tmp_path / "softlabels.npz")["logits"].astype(np.float64)
    np.testing.assert_allclose(softmax(logits, axis=1), expected, atol=1e-3)
    assert summary["distillation_temperature"] == 4.0
    softened = softmax(np.log(expected) / 4, axis=1).max(axis=1).mean()
    assert summary["mean_top_probability_distilled"] == pytest.approx(softened)
    assert summary["mean_top_probability"] == pytest.approx(expected.max(axis=1).mean())


def test_reported_rows_that_a_teacher_has_learnt_are_told_apart(
    tmp_path: Path, view: pd.DataFrame
) -> None:
    expected = draw_probabilities(scale=3)
    summary = write_soft_labels(tmp_path, view, expected, seen=SEEN, settings=HALF)
    top = expected.max(axis=1)
    assert summary["by_seen"] == {
        "seen": {"n": 2, "mean_top_probability": pytest.approx(top[[0, 3]].mean())},
        "unseen": {"n": 2, "mean_top_probability": pytest.approx(top[[1, 2]].mean())},
    }
    lines = (tmp_path / "softlabels_index.jsonl").read_text(encoding="utf-8").splitlines()
    index = [json.loads(line) for line in lines]
    assert list(index[0]) == ["i", "id", "source", "y", "split", "seen"]
    assert [row["split"] for row in index] == ["train", "train", "test", "train"]
    assert [row["seen"] for row in index] == [True, False, False, True]


def test_a_part_without_rows_is_left_out(tmp_path: Path, view: pd.DataFrame) -> None:
    probabilities = draw_probabilities(scale=3)
    summary = write_soft_labels(tmp_path, view, probabilities, seen=frozenset(), settings=HALF)
    assert list(summary["by_seen"]) == ["unseen"]
