import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor

from stages.calibrating.refinement import (
    NO_BIAS,
    Scaling,
    fit_scaling,
    scaling_interval,
    try_bias,
)
from stages.scoring.bootstrap import resample
from stages.scoring.metrics import expected_calibration_error, row_nll, softmax
from stages.scoring.temperature import fit_temperature, one_hot

BIAS = np.array([1.5, -0.5, 0, 0, 0, -1, 0])
TEMPERATURE = 2.0


def _resamples(n):
    return resample([f"g{k}" for k in range(n)], samples=200, random=np.random.default_rng(0))


def _tried(logits, targets):
    fold = np.arange(len(targets)) % 5
    return try_bias(logits, targets, fold=fold, resamples=_resamples(len(targets)))


def _ece(probabilities, targets):
    return expected_calibration_error(probabilities, targets, bins=15)


def _changes(trial, n):
    return trial.changes(resamples=_resamples(n), bins=15)


def _with_bias(draw, n, *, seed=0):
    """Logits of which `logits / TEMPERATURE + BIAS` is the truth."""
    logits, targets = draw(n, seed=seed)
    return (logits - BIAS) * TEMPERATURE, targets


def test_known_temperature_and_bias_come_back_together(draw):
    found = fit_scaling(*_with_bias(draw, 20_000), start=5.0)
    assert found.temperature == pytest.approx(TEMPERATURE, rel=0.03)
    assert np.array(found.class_bias) == pytest.approx(BIAS - BIAS.mean(), abs=0.1)
    assert sum(found.class_bias) == pytest.approx(0, abs=1e-9)


def test_no_other_temperature_and_bias_fit_better(draw):
    """At the minimum of a convex function its slopes are 0."""
    logits, targets = draw(500)
    moved = fit_scaling(logits * 2, targets, start=1.0).apply(logits * 2)
    assert moved.mean(axis=0) == pytest.approx(np.bincount(targets) / 500, abs=1e-6)
    expected = (moved * logits).sum(axis=1).mean()
    assert expected == pytest.approx(logits[np.arange(500), targets].mean(), abs=1e-6)


def test_temperature_and_bias_are_those_of_sklearn_s_regression(draw):
    """A multinomial fit is a Poisson one with an effect for each row."""
    logits, targets = draw(60, seed=3)
    columns = np.column_stack(
        [logits.ravel(), np.tile(np.eye(7), (60, 1)), np.repeat(np.eye(60), 7, axis=0)]
    )
    oracle = PoissonRegressor(alpha=1e-10, fit_intercept=False, max_iter=10_000, tol=1e-10)
    slopes = oracle.fit(columns, one_hot(targets).ravel()).coef_
    found = fit_scaling(logits, targets, start=1.0)
    assert 1 / found.temperature == pytest.approx(slopes[0], abs=1e-3)
    assert found.class_bias == pytest.approx(slopes[1:8] - slopes[1:8].mean(), abs=1e-3)


def test_start_does_not_matter(draw):
    logits, targets = draw(300)
    first, *others = (fit_scaling(logits * 30, targets, start=t) for t in (30.0, 1.0, 0.2, 49.0))
    for other in others:
        assert other.temperature == pytest.approx(first.temperature, rel=1e-6)


def test_logits_that_are_right_on_every_row_have_no_minimum(draw):
    logits, _ = draw(300)
    assert fit_scaling(logits, logits.argmax(axis=1), start=1.0) is None


@pytest.mark.parametrize("n", [70, 300, 3_000])
def test_reported_rows_that_a_bias_parts_adopt_no_bias(n):
    """The temperature alone has its optimum; beside it the biases run off to infinity."""
    targets = np.arange(n) % 7
    logits = np.random.default_rng(0).normal(scale=0.3, size=(n, 7)) - BIAS * 2
    logits[np.arange(n), targets] += 4
    assert (logits.argmax(axis=1) != targets).any()
    assert fit_temperature(logits, one_hot(targets)).no_fit is None
    assert fit_scaling(logits, targets, start=1.0) is None
    trial = _tried(logits, targets)
    assert not trial.adopted
    assert trial.reason == "temperature and bias have no optimum together without fold 0"


def test_logits_that_are_the_same_on_every_row_leave_the_bias_open():
    logits = np.tile(np.linspace(0, 1, 7), (70, 1))
    assert fit_scaling(logits, np.arange(70) % 7, start=1.0) is None


def test_interval_of_a_temperature_with_a_bias_holds_the_truth_at_its_rate(draw):
    held = 0
    for seed in range(100):
        logits, targets = _with_bias(draw, 300, seed=seed)
        scaling = fit_scaling(logits, targets, start=1.0)
        low, high = scaling_interval(logits, targets, scaling=scaling, resamples=_resamples(300))
        assert low < scaling.temperature < high
        held += low < TEMPERATURE < high
    assert 88 <= held <= 99


def test_real_gain_is_adopted_with_its_changes(draw):
    logits, targets = _with_bias(draw, 2_000)
    trial = _tried(logits, targets)
    assert trial.adopted
    changes = _changes(trial, 2_000)
    low, high = changes["nll"].interval
    assert low < changes["nll"].value < high < 0
    for name in ("accuracy", "macro_f1"):
        low, high = changes[name].interval
        assert 0 < low < changes[name].value < high


def test_bias_does_not_cost_calibration_for_the_temperature_is_fitted_with_it(draw):
    """A bias on top of a temperature that was fitted alone would be over-confident."""
    logits, targets = _with_bias(draw, 10_000)
    trial = _tried(logits, targets)
    assert trial.adopted
    assert _ece(trial.refined, targets) < 0.02
    alone = Scaling(fit_temperature(logits, one_hot(targets)).value)
    on_top = fit_scaling(logits, targets, start=1.0).class_bias
    late = softmax(np.log(alone.apply(logits)) + on_top)
    assert _ece(late, targets) > 0.05


def test_rise_of_the_ece_hinders_no_gain_in_nll(draw):
    """How sharp the logits are differs by row, which neither T nor bias can mend."""
    logits, targets = draw(4_000)
    sharpness = np.exp(np.random.default_rng(1).normal(scale=0.7, size=(4_000, 1)))
    trial = _tried(logits * sharpness - BIAS * 0.4, targets)
    assert trial.adopted
    changes = _changes(trial, 4_000)
    assert changes["nll"].interval[1] < 0 < changes["accuracy"].value
    assert _ece(trial.refined, targets) > _ece(trial.without, targets)


def test_no_real_gain_on_held_out_folds_is_not_adopted_though_it_fits_better(draw):
    logits, targets = draw(150)
    alone = Scaling(fit_temperature(logits, one_hot(targets)).value).apply(logits)
    in_sample = fit_scaling(logits, targets, start=1.0).apply(logits)
    assert row_nll(in_sample, targets).mean() < row_nll(alone, targets).mean()
    trial = _tried(logits, targets)
    assert not trial.adopted
    assert _changes(trial, 150)["nll"].interval[1] >= 0


def test_incident_N3_bias_is_tried_on_rows_that_it_was_not_fitted_on(draw):
    logits, targets = draw(200)
    trial = _tried(logits, targets)
    out = np.arange(200) % 5 == 2
    expected = fit_scaling(logits[~out], targets[~out], start=1.0).apply(logits[out])
    assert trial.refined[out] == pytest.approx(expected, abs=1e-6)


def test_class_without_rows_is_said_and_not_fitted(draw):
    logits, targets = draw(100)
    trial = _tried(logits, np.where(targets == 1, 0, targets))
    assert (trial.adopted, _changes(trial, 100)) == (False, {})
    assert trial.reason == "a class has too few rows"
    assert Scaling(2.0).class_bias == NO_BIAS
