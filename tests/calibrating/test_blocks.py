import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from stages.calibrating.blocks import (
    Evidence,
    Reported,
    block,
    native_px_masks,
    rounded,
    row_set_masks,
    score_row,
    votes_block,
)
from stages.calibrating.calibration import Pair
from stages.calibrating.protocol import Protocol
from stages.config import CLASSES
from stages.records.schema import SHARE_COLUMNS
from stages.scoring.bootstrap import METRICS
from stages.scoring.metrics import score, softmax
from stages.scoring.votes import row_kl

PROTOCOL = Protocol("test", bins=15, folds=5, bootstrap_samples=50, seed=7)
SHA = "ab" * 32


@pytest.fixture
def evidence(draw):
    logits, targets = draw(200)
    rows = pd.DataFrame(
        {
            "id": [f"a/{n:03d}" for n in range(200)],
            "source": np.where(np.arange(200) < 80, "a", "b"),
            "label": np.array(CLASSES)[targets],
            "split": "test",
            "official": np.where(np.arange(200) < 150, "test", "train"),
            "twin_splits": np.where(np.arange(200) % 10 == 0, "train", ""),
            "group": [f"g{n}" for n in range(200)],
            "native_px": np.where(np.arange(200) < 50, 20, 100),
        }
    )
    shares = np.random.default_rng(1).multinomial(10, softmax(logits)) / 10
    shares[100:] = np.nan
    rows = rows.assign(**dict(zip(SHARE_COLUMNS, shares.T, strict=True)))
    pair = Pair(softmax(logits * 3), softmax(logits), softmax(logits * 0.9))
    return Evidence(rows, pair, "val", "test", (SHA,))


def _block(evidence, whole=None, **left_out):
    return block(Reported(evidence, whole or evidence, left_out), protocol=PROTOCOL)


def test_incident_N6_every_block_names_model_rows_label_rule_and_protocol(evidence):
    found = _block(evidence)
    votes = votes_block(evidence, protocol=PROTOCOL)
    expected = {"weights_sha256": [SHA], "fitted_on": "val", "reported_on": "test"}
    assert found["about"] == [expected | {"label_rule": "majority", "n": 200}]
    assert votes["about"] == [expected | {"label_rule": "votes", "n": 100}]


def test_incident_N8_every_row_of_scores_has_every_metric_with_its_interval(evidence):
    found = _block(evidence)
    tables = ("scores", "per_source", "per_native_px", "row_sets")
    for row in [row for table in tables for row in found[table]]:
        for metric in METRICS:
            low, high = row[f"{metric}_95"]
            assert low <= high, metric
            assert np.isfinite([row[metric], low, high]).all(), metric
        assert 0 < row["ece_floor"] < row["ece_floor_95"]
        assert row["n"] > 0


@pytest.mark.parametrize("copies", [1, 2])
def test_reported_ece_interval_reaches_0_exactly_where_its_floor_says_noise(draw, copies):
    """Of samples with logits 1.35 times too large some lie above the floor, and some below."""
    reaches, is_below = [], []
    for seed in range(40):
        logits, targets = (np.repeat(one, copies, axis=0) for one in draw(100, seed=seed))
        draws = PROTOCOL.resamples([f"g{number // copies}" for number in range(len(targets))])
        row = score_row(softmax(logits * 1.35), targets, resamples=draws, bins=15)
        reaches.append(row["ece_95"][0] == 0)
        is_below.append(row["ece"] <= row["ece_floor_95"])
    assert reaches == is_below
    assert 0 < sum(reaches) < 40


def test_headline_is_the_scaled_row_and_what_it_was_before(evidence):
    found = _block(evidence)
    raw, scaled = (
        score(p, evidence.targets, bins=15) for p in (evidence.pair.raw, evidence.pair.scaled)
    )
    plain = {name: value for name, value in found.items() if not isinstance(value, list)}
    assert plain.pop("ece_floor") == found["scores"][1]["ece_floor"]
    assert plain == pytest.approx({
        "n": 200, "classes": 7, "accuracy": scaled["accuracy"], "macro_f1": scaled["macro_f1"],
        "nll": scaled["nll"], "nll_raw": raw["nll"], "ece": scaled["ece"],
    })  # fmt: skip


def test_parts_are_the_scores_of_their_rows(evidence):
    found = _block(evidence)
    assert [(row["source"], row["n"]) for row in found["per_source"]] == [("a", 80), ("b", 120)]
    expected = score(evidence.pair.scaled[80:], evidence.targets[80:], bins=15)
    assert found["per_source"][1]["macro_f1"] == pytest.approx(expected["macro_f1"])
    sizes = [(row["native_px"], row["n"]) for row in found["per_native_px"]]
    assert sizes == [("below 48", 50), ("96 to 191", 150)]
    assert sum(row["n"] for row in found["per_class"]) == 200


def test_official_test_stands_beside_its_duplicate_free_part(evidence):
    found = {row["rows"]: row for row in _block(evidence)["row_sets"]}
    sizes = {name: row["n"] for name, row in found.items()}
    assert sizes == {
        "all": 200, "duplicate_free": 180, "official": 150, "official_duplicate_free": 135,
    }  # fmt: skip
    free = (np.arange(200) < 150) & (np.arange(200) % 10 != 0)
    expected = score(evidence.pair.scaled[free], evidence.targets[free], bins=15)
    assert found["official_duplicate_free"]["nll"] == pytest.approx(expected["nll"])


def test_missing_official_split_is_not_official(evidence):
    rows = evidence.rows.assign(official=np.nan)
    assert set(row_set_masks(rows)) == {"all", "duplicate_free"}


def test_copies_that_share_a_group_do_not_narrow_the_interval_of_a_block(evidence):
    def widths(rows):
        low, high = np.array(
            [entry["accuracy_95"] for entry in _block(rows)["per_source"]]
        ).T  # fmt: skip
        return high - low

    tenfold = Evidence(
        pd.concat([evidence.rows] * 10, ignore_index=True),
        Pair(*(np.tile(one, (10, 1)) for one in (evidence.pair.raw, evidence.pair.scaled, evidence.pair.to_votes))),
        "val", "test", (SHA,),
    )  # fmt: skip
    assert widths(tenfold) == pytest.approx(widths(evidence))


def test_classes_are_scored_after_calibration(evidence):
    scaled = np.roll(evidence.pair.scaled, 1, axis=1)
    pair = Pair(evidence.pair.raw, scaled, evidence.pair.to_votes)
    rolled = Evidence(evidence.rows, pair, "val", "test", (SHA,))
    expected = score(scaled, evidence.targets, bins=15)["f1"]
    found = {row["class"]: row["f1"] for row in _block(rolled)["per_class"]}
    assert list(found.values()) == pytest.approx(list(expected.values()))


def test_absent_class_has_no_f1_and_the_block_counts_the_classes_that_are_there(evidence):
    some = evidence.only(evidence.targets != 1)
    found = _block(some)
    absent = found["per_class"][1]
    assert (absent["n"], absent["f1"], absent["f1_95"]) == (0, None, None)
    assert found["classes"] == 6
    assert all(row["f1"] is not None for row in found["per_class"] if row["n"])


@pytest.mark.parametrize("is_right", [True, False])
def test_few_rows_that_are_all_right_or_all_wrong_are_not_certain(evidence, is_right):
    right = evidence.pair.scaled.argmax(axis=1) == evidence.targets
    six = evidence.only(np.isin(np.arange(200), np.flatnonzero(right == is_right)[:6]))
    low, high = _block(six)["scores"][1]["accuracy_95"]
    expected = binomtest(6 * is_right, 6).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_rows_trained_on_are_out_of_the_headline_and_in_the_set_of_all(evidence):
    unseen = evidence.only(np.arange(200) >= 30)
    found = _block(unseen, evidence, trained=30)
    assert found["n"] == 170
    assert found["left_out"] == [{"reason": "trained", "rows": 30}]
    assert found["row_sets"][0]["n"] == 200


def test_block_without_rows_says_so_and_has_no_numbers(evidence):
    nothing = evidence.only(np.zeros(200, dtype=bool))
    found = _block(nothing, evidence, trained=200)
    assert set(found) == {"n", "about", "left_out"}
    assert (found["n"], found["about"][0]["n"]) == (0, 0)


def test_votes_are_compared_on_the_rows_that_have_them(evidence):
    found = votes_block(evidence, protocol=PROTOCOL)
    assert found["n"] == 100
    shares = evidence.rows[list(SHARE_COLUMNS)].to_numpy()[:100]
    expected = row_kl(evidence.pair.to_votes[:100], shares).mean()
    assert found["kl"] == pytest.approx(expected)
    assert found["kl"] < found["kl_raw"]
    names = [row["probabilities"] for row in found["scores"]]
    assert names == ["raw", "scaled", "scaled_to_majority"]
    unvoted = votes_block(evidence.only(np.arange(200) >= 100), protocol=PROTOCOL)
    assert unvoted["n"] == 0


def test_size_at_an_edge_belongs_to_the_bucket_that_it_begins():
    masks = native_px_masks(pd.DataFrame({"native_px": [47, 48, 95, 96, 192, 500]}))
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "below 48": 1, "48 to 95": 2, "96 to 191": 1, "192 and more": 2,
    }  # fmt: skip


def test_rounding_reaches_every_float():
    assert rounded({"a": [0.12345678, (1, 2.00000049)], "b": "0.1234567"}) == {
        "a": [0.123457, [1, 2.0]], "b": "0.1234567",
    }  # fmt: skip
