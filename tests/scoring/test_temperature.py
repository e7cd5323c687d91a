import numpy as np
import pytest
from scipy.stats import binom
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from stages.scoring.bootstrap import resample
from stages.scoring.metrics import softmax
from stages.scoring.temperature import (
    HIGHEST,
    LOWEST,
    fit_temperature,
    one_hot,
    scale,
    temperature_interval,
)


class _Logits(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose features are its logits."""

    def fit(self, _logits, _targets):
        self.classes_ = np.arange(7)
        return self

    def predict(self, logits):
        return logits.argmax(axis=1)

    def decision_function(self, logits):
        return logits


def _fit(logits, targets):
    fitted = fit_temperature(logits, one_hot(targets))
    assert fitted.no_fit is None
    return fitted.value


def _no_fit(logits, shares):
    fitted = fit_temperature(logits, shares)
    assert fitted.value == 1
    return fitted.no_fit


def _interval(logits, shares, groups, *, temperature, samples=300, seed=0):
    names = [f"g{n}" for n in groups]
    resamples = resample(names, samples=samples, random=np.random.default_rng(seed))
    return temperature_interval(logits, shares, temperature=temperature, resamples=resamples)


def _all_right(n, *, margin):
    """Logits that are right on every row, by this margin or more."""
    random = np.random.default_rng(0)
    targets = np.arange(n) % 7
    logits = random.normal(scale=0.3, size=(n, 7))
    logits[np.arange(n), targets] = logits.max(axis=1) + margin + random.uniform(0, 3, n)
    return logits, targets


@pytest.mark.parametrize("true_t", [0.1, 1.0, 12.0, 30.0])
def test_incident_N2_temperature_above_the_old_clamp_is_found(draw, true_t):
    logits, targets = draw(20_000)
    assert _fit(logits * true_t, targets) == pytest.approx(true_t, rel=0.03)


def test_agrees_with_sklearn(draw):
    logits, targets = draw(800)
    logits = logits * 2.3
    prefit = FrozenEstimator(_Logits().fit(logits, targets))
    oracle = CalibratedClassifierCV(prefit, method="temperature", cv=2, ensemble=False)
    oracle.fit(logits, targets)
    scaled = softmax(logits / _fit(logits, targets))
    assert scaled == pytest.approx(oracle.predict_proba(logits), abs=1e-4)


def test_scaling_probabilities_is_scaling_logits(draw):
    logits, _ = draw(50)
    assert scale(softmax(logits), 2.5) == pytest.approx(softmax(logits / 2.5))
    assert scale(softmax(logits), 1.0) == pytest.approx(softmax(logits))


def test_votes_and_their_majority_have_temperatures_of_their_own(draw):
    logits, _ = draw(5_000)
    shares = np.random.default_rng(1).multinomial(10, softmax(logits)) / 10
    to_votes = fit_temperature(logits * 3, shares).value
    to_majority = _fit(logits * 3, shares.argmax(axis=1))
    assert to_votes == pytest.approx(3, rel=0.03)
    assert to_majority < 0.6 * to_votes


def test_incident_N2_touched_bound_is_no_fit_and_no_temperature(draw):
    logits, targets = draw(300)
    shares = one_hot(targets)
    assert _no_fit(-logits, shares) == "the logits say nothing of the labels of these 300 rows"
    assert "say nothing" in _no_fit(np.zeros((300, 7)), shares)
    assert _no_fit(logits * 100, shares) == "the optimum of 300 rows lies above 50"
    assert _no_fit(logits * 0.01, shares) == "the optimum of 300 rows lies below 0.05"


@pytest.mark.parametrize("n", [70, 3_000])
@pytest.mark.parametrize("margin", [0, 0.1, 1.8, 3, 9, 300])
def test_incident_N10_rows_that_are_all_right_fit_no_temperature(n, margin):
    """Their NLL underflows to a flat 0 inside the bounds."""
    logits, targets = _all_right(n, margin=margin)
    shares = one_hot(targets)
    for form in (logits, np.log(np.maximum(softmax(logits), 1e-300))):
        assert _no_fit(form, shares) == f"the logits are right on each of {n} rows"


def test_reported_one_wrong_row_is_enough_for_a_temperature_and_its_interval_is_open():
    """A third of the draws does without that row and has no optimum."""
    logits, targets = _all_right(1_000, margin=5)
    logits[0] = np.roll(logits[0], 1)
    temperature = _fit(logits, targets)
    assert 0.3 < temperature < 3
    low, high = _interval(logits, one_hot(targets), range(1_000), temperature=temperature)
    assert low == pytest.approx(LOWEST)
    assert temperature < high < HIGHEST


@pytest.mark.parametrize("voters", [1, 10])
def test_interval_holds_the_known_temperature_at_the_stated_rate(draw, voters):
    """95 % are stated; fewer than 1 in 100 runs of 100 samples would hold it less often than asked.

    One voter is a label.
    """
    held = 0
    for seed in range(100):
        logits, _ = draw(300, seed=seed)
        shares = np.random.default_rng(seed).multinomial(voters, softmax(logits)) / voters
        fitted = fit_temperature(logits * 2.5, shares).value
        low, high = _interval(logits * 2.5, shares, range(300), temperature=fitted, seed=seed)
        assert high - low < 1.2
        held += low <= 2.5 <= high
    assert held >= binom.ppf(0.01, 100, 0.95)


def test_interval_is_that_of_temperatures_fitted_to_each_draw(draw):
    logits, targets = draw(400)
    logits = logits * 2
    groups = [f"g{n // 2}" for n in range(400)]
    resamples = resample(groups, samples=200, random=np.random.default_rng(3))
    refitted = [
        _fit(np.repeat(logits, counts, axis=0), np.repeat(targets, counts))
        for counts in (drawn[resamples.group] for drawn in resamples.counts)
    ]
    interval = temperature_interval(
        logits, one_hot(targets), temperature=_fit(logits, targets), resamples=resamples
    )
    assert interval == pytest.approx(np.quantile(refitted, [0.025, 0.975]), rel=0.02)
