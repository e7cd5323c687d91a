import numpy as np
import pandas as pd
import pytest

from stages.evaluation.blocks import Evidence, block, native_px_masks, rounded
from stages.evaluation.bootstrap import resample
from stages.evaluation.calibration import Pair
from stages.evaluation.metrics import score, softmax
from stages.sources.labels import CLASSES


@pytest.fixture
def evidence(draw):
    logits, targets = draw(200)
    rows = pd.DataFrame(
        {
            "id": [f"a/{n:03d}" for n in range(200)],
            "source": np.where(np.arange(200) < 80, "a", "b"),
            "label": np.array(CLASSES)[targets],
            "group": [f"g{n}" for n in range(200)],
            "native_px": np.where(np.arange(200) < 50, 20, 100),
        }
    )
    return Evidence(rows, Pair(softmax(logits * 3), softmax(logits)), "val", "test")


def _block(evidence):
    draws = resample(evidence.rows["group"], samples=50, random=np.random.default_rng(0))
    return block(evidence, resamples=draws, bins=15)


def test_incident_N6_every_row_of_numbers_names_what_it_was_fitted_and_taken_on(evidence):
    found = _block(evidence)
    raw, scaled = found["scores"]
    assert (raw["probabilities"], raw["fitted_on"], raw["n"]) == ("raw", "nothing", 200)
    for row in [scaled, *found["per_source"], *found["per_native_px"]]:
        assert (row["probabilities"], row["fitted_on"], row["reported_on"]) == (
            "scaled",
            "val",
            "test",
        )
        assert row["n"] > 0
        assert all(f"{name}_95" in row for name in ("accuracy", "macro_f1", "nll", "ece"))


def test_headline_is_the_scaled_row_and_what_it_was_before(evidence):
    found = _block(evidence)
    raw, scaled = (
        score(p, evidence.targets, bins=15) for p in (evidence.pair.raw, evidence.pair.scaled)
    )
    plain = {name: value for name, value in found.items() if not isinstance(value, list)}
    assert plain == {
        "n": 200, "accuracy": scaled["accuracy"], "macro_f1": scaled["macro_f1"],
        "nll": scaled["nll"], "nll_raw": raw["nll"], "ece": scaled["ece"], "ece_raw": raw["ece"],
    }  # fmt: skip


def test_parts_are_the_scores_of_their_rows(evidence):
    found = _block(evidence)
    assert [(row["source"], row["n"]) for row in found["per_source"]] == [("a", 80), ("b", 120)]
    expected = score(evidence.pair.scaled[80:], evidence.targets[80:], bins=15)
    assert found["per_source"][1]["macro_f1"] == expected["macro_f1"]
    sizes = [(row["native_px"], row["n"]) for row in found["per_native_px"]]
    assert sizes == [("below 48", 50), ("96 to 191", 150)]
    assert sum(row["n"] for row in found["per_class"]) == 200


def test_size_at_an_edge_belongs_to_the_bucket_that_it_begins():
    masks = native_px_masks(pd.DataFrame({"native_px": [47, 48, 95, 96, 192, 500]}))
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "below 48": 1, "48 to 95": 2, "96 to 191": 1, "192 and more": 2,
    }  # fmt: skip


def test_rounding_reaches_every_float():
    assert rounded({"a": [0.12345678, (1, 2.00000049)], "b": "0.1234567"}) == {
        "a": [0.123457, [1, 2.0]], "b": "0.1234567",
    }  # fmt: skip
