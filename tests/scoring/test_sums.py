import pytest

from stages.scoring.bootstrap import METRICS, metrics_of, row_sums
from stages.scoring.metrics import score, softmax


def _metrics(probabilities, targets, bins=15):
    sums = row_sums(probabilities, targets, bins=bins).sum(axis=0, keepdims=True)
    return {name: found[0] for name, found in metrics_of(sums, classes=7).items()}


def test_sums_over_rows_give_the_scores(draw):
    logits, targets = draw(300)
    probabilities = softmax(logits * 2)
    found, oracle = _metrics(probabilities, targets), score(probabilities, targets, bins=15)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece"):
        assert found[name] == pytest.approx(oracle[name]), name
    assert found["f1_of_class"] == pytest.approx(list(oracle["f1"].values()))
    assert set(METRICS) <= set(found)
