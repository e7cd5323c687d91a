import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from stages.evaluation.metrics import row_nll, softmax
from stages.evaluation.temperature import fit_temperature, scale
from stages.runtime.errors import UserError


class _Logits(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose features are its logits."""

    def fit(self, _logits, _targets):
        self.classes_ = np.arange(7)
        return self

    def predict(self, logits):
        return logits.argmax(axis=1)

    def decision_function(self, logits):
        return logits


@pytest.mark.parametrize("true_t", [0.1, 0.7, 1.0, 4.0, 30.0])
def test_known_temperature_comes_back(draw, true_t):
    logits, targets = draw(20_000)
    assert fit_temperature(logits * true_t, targets, name="x") == pytest.approx(true_t, rel=0.03)


def test_agrees_with_sklearn(draw):
    logits, targets = draw(800)
    logits = logits * 2.3
    prefit = FrozenEstimator(_Logits().fit(logits, targets))
    oracle = CalibratedClassifierCV(prefit, method="temperature", cv=2, ensemble=False)
    oracle.fit(logits, targets)
    mine = softmax(logits / fit_temperature(logits, targets, name="x"))
    assert mine == pytest.approx(oracle.predict_proba(logits), abs=1e-4)


def test_is_the_minimum(draw):
    logits, targets = draw(300)
    best = fit_temperature(logits * 2, targets, name="x")
    nll = {
        t: row_nll(softmax(logits * 2 / t), targets).mean()
        for t in (best * 0.98, best, best * 1.02)
    }
    assert min(nll, key=nll.get) == best


def test_scaling_probabilities_is_scaling_logits(draw):
    logits, _ = draw(50)
    assert scale(softmax(logits), 2.5) == pytest.approx(softmax(logits / 2.5))
    assert scale(softmax(logits), 1.0) == pytest.approx(softmax(logits))


def test_incident_N2_touched_bound_is_an_error_and_not_a_temperature(draw):
    logits, targets = draw(300)
    always_right = np.eye(7)[targets]
    with pytest.raises(UserError, match=r"RN18 on val: no calibration temp.*got the bound 0\.05"):
        fit_temperature(always_right * 0.01, targets, name="RN18 on val")
    with pytest.raises(UserError, match=r"between 0\.05 and 50, got the bound 50.*300 rows"):
        fit_temperature(-logits, targets, name="RN18 on val")


def test_incident_N2_temperature_above_the_old_clamp_is_found(draw):
    logits, targets = draw(5_000)
    assert fit_temperature(logits * 12, targets, name="x") == pytest.approx(12, rel=0.05)
