import numpy as np
import pandas as pd
import pytest

from stages.calibrating.blocks import Evidence
from stages.calibrating.calibration import Pair
from stages.calibrating.comparison import compare, differences, same_rows
from stages.calibrating.protocol import Protocol
from stages.config import CLASSES
from stages.scoring.metrics import softmax

PROTOCOL = Protocol("test", bins=15, folds=5, bootstrap_samples=200, seed=7)


def _evidence(logits, targets):
    rows = pd.DataFrame(
        {
            "id": [f"a/{n:04d}" for n in range(len(targets))],
            "source": np.where(np.arange(len(targets)) % 2, "b", "a"),
            "label": np.array(CLASSES)[targets],
            "group": [f"g{n}" for n in range(len(targets))],
        }
    )
    pair = Pair(softmax(logits), softmax(logits), softmax(logits))
    return Evidence(rows, pair, "val", "test", ("ab" * 32,))


def _compare(first, second):
    return compare(first, second, protocol=PROTOCOL)


def test_incident_N1_only_shared_rows_are_compared(draw):
    """A was scored on easy rows, B on easy and hard ones: B looked worse though it is better."""
    logits, targets = draw(1000)
    hard = np.arange(1000) >= 500
    noise = np.random.default_rng(1).normal(size=logits.shape)
    of_a = _evidence(logits + noise, targets).only(~hard)
    of_b = _evidence(np.where(hard[:, None], noise, logits), targets)
    first, second = same_rows(of_a, of_b)
    assert list(first.rows["id"]) == list(second.rows["id"]) == list(of_a.rows["id"])
    found = _compare(of_a, of_b)
    assert found["n"] == 500
    assert found["macro_f1_gain_95"][0] > 0
    assert found["nll_change_95"][1] < 0
    assert [row["source"] for row in found["per_source"]] == ["a", "b"]


def test_incident_N1_different_rows_are_refused_and_none_in_common_is_said(draw):
    evidence = _evidence(*draw(20))
    mask = np.arange(20) < 10
    pair = evidence.only(mask), evidence.only(~mask)
    draws = PROTOCOL.resamples(pair[0].rows["group"])
    with pytest.raises(AssertionError, match="same rows"):
        differences(*pair, resamples=draws, bins=15)
    found = _compare(*pair)
    assert set(found) == {"n", "about"}
    assert found["n"] == 0


def test_scores_of_both_stand_beside_their_difference(draw):
    logits, targets = draw(300)
    found = _compare(_evidence(logits * 3, targets), _evidence(logits, targets))
    before, after = found["scores"]
    assert found["nll_change"] == pytest.approx(after["nll"] - before["nll"])
    assert found["macro_f1_gain"] == pytest.approx(after["macro_f1"] - before["macro_f1"])
    assert before["n"] == after["n"] == 300


def test_model_against_itself_differs_by_nothing(draw):
    evidence = _evidence(*draw(100))
    found = _compare(evidence, evidence)
    assert (found["macro_f1_gain"], found["nll_change"]) == (0, 0)
    assert found["macro_f1_gain_95"] == found["nll_change_95"] == [0, 0]


def test_pairs_narrow_the_interval(draw):
    logits, targets = draw(600)
    slightly = logits + np.random.default_rng(2).normal(scale=0.1, size=logits.shape)
    low, high = _compare(_evidence(logits, targets), _evidence(slightly, targets))["nll_change_95"]
    alone = np.std(np.log(softmax(logits)[np.arange(600), targets])) / np.sqrt(600)
    assert high - low < alone
